// Measured in the page: what has no name, what is too pale, and whether the tab key follows the eye.
() => {
  const seen = (each) => {
    const box = each.getBoundingClientRect(), style = getComputedStyle(each);
    return box.width > 1 && box.height > 1 && style.visibility !== 'hidden' && Number(style.opacity) > 0;
  };
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const colour = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3]));
  const background = (each) => {
    const layers = [];
    for (let node = each; node; node = node.parentElement) {
      const style = getComputedStyle(node);
      layers.push(colour(style.backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((each) => each / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const brightness = (each) => {
    for (let node = each; node; node = node.parentElement) {
      const found = getComputedStyle(node).filter.match(/brightness\(([\d.]+)\)/);
      if (found) return Number(found[1]);
    }
    return 1;
  };

  const pale = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), parent = walker.currentNode.parentElement;
    if (!text || !parent || !seen(parent) || parent.closest('script, style, i.material-icons, .written, [disabled]')) continue;
    const style = getComputedStyle(parent), drawn = parent.namespaceURI.endsWith('svg');
    const below = background(parent);
    const front = over(colour(drawn ? style.fill : style.color), below).map((c) => Math.min(255, c * brightness(parent)));
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const found = ratio(front, below);
    if (found < (large ? 3 : 4.5)) pale.push(`${found.toFixed(2)} ${text.slice(0, 30)} (${parent.tagName}.${parent.className.baseVal ?? parent.className})`);
  }

  const controls = [...document.querySelectorAll(
    'button, input, select, textarea, a[href], [role=slider], [role=button], [tabindex="0"]')].filter(seen);
  const unnamed = controls.filter((each) => !(each.innerText?.trim() || each.ariaLabel || each.labels?.length
    || each.title || each.type === 'file' || each.closest('[aria-label]') || each.querySelector('[aria-label]')))
    .map((each) => each.outerHTML.slice(0, 200));

  const pictures = [...document.querySelectorAll('svg, img, canvas')].filter(seen).filter((each) =>
    !(each.ariaLabel || each.getAttribute('aria-hidden') || each.closest('[aria-label], [aria-hidden=true]')
      || each.getAttribute('alt') === '')).map((each) => each.outerHTML.slice(0, 200));

  const order = controls.filter((each) => each.tabIndex >= 0);
  const jumps = [];
  if (order.some((each) => each.tabIndex > 0)) jumps.push('a positive tabindex');
  const regions = [...document.querySelectorAll('nav.screens, .places, .subjects, .inspection > div, .inspection > aside')];
  const tops = regions.map((each) => each.getBoundingClientRect());
  for (let at = 1; at < tops.length; at++)
    if (tops[at].bottom <= tops[at - 1].top || (tops[at].top < tops[at - 1].bottom && tops[at].right <= tops[at - 1].left))
      jumps.push(`${regions[at].className} comes after ${regions[at - 1].className} but lies before it`);

  const levels = [...document.querySelectorAll('h1, h2, h3, h4')].map((each) => Number(each.tagName[1]));
  return { pale: [...new Set(pale)], unnamed, pictures, jumps, title: document.title, language: document.documentElement.lang,
    headings: levels[0] === 1 && levels.filter((level) => level === 1).length === 1,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth };
}
