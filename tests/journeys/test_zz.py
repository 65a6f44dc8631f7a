def test_a(terminal, trained):
    import time
    t=time.time(); a=terminal.do("sample", trained, "--num-tokens", "20"); print(a, time.time()-t)
    t=time.time(); a=terminal.do("eval", trained, "--json"); print(a.json.keys(), time.time()-t)
    terminal.write("a.txt", "hello world, hello sun. "*100)
    t=time.time(); a=terminal.train("a.txt", "--steps", "4"); print(a.out,a.err, time.time()-t)
    t=time.time(); a=terminal.do("train","a.txt", "--steps", "2","--train.sample_tokens","3"); print(a.out, time.time()-t)
    assert 0
