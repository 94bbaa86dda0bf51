import hashlib
import re

import numpy as np
import pytest

from jaxdl.data import DataError, MissingData, load_text, streams, windows

TOKENS = np.arange(100, 153)  # token i is its position + 100, so that a wrong index is visible


def every_row(batches):
    return batches.take(batches.arrays, np.arange(batches.length))


class TestWindows:
    def test_stride_one_is_every_full_window(self):
        rows = every_row(windows(TOKENS, 7, 5))
        want = np.lib.stride_tricks.sliding_window_view(TOKENS, 8)
        assert set(rows) == {"x", "y"}
        np.testing.assert_array_equal(rows["x"], want[:, :-1])
        np.testing.assert_array_equal(rows["y"], want[:, 1:])

    @pytest.mark.parametrize("count", [53, 52, 51, 50, 49, 2])
    def test_stride_t_predicts_every_token_but_the_first_once(self, count):
        batches = windows(TOKENS[:count], 7, 5, stride=7)
        rows = every_row(batches)
        mask = rows.get("mask", np.ones_like(rows["y"]))
        assert ("mask" in rows) == ((count - 1) % 7 != 0)
        assert rows["y"][mask > 0].tolist() == TOKENS[1:count].tolist()
        assert (rows["x"] + 1 == rows["y"])[mask > 0].all()

    def test_too_few(self):
        with pytest.raises(ValueError, match=r"7 tokens .*windows of 7"):
            windows(TOKENS[:7], 7, 5)
        assert windows(TOKENS[:8], 7, 5).length == 1


class TestStreams:
    def test_each_row_continues_the_row_before(self):
        batches = streams(TOKENS, 5, 3)  # 3 parts of 17, of which 15 are read: 3 windows
        first, second, third, again = (batches.batch(7, t) for t in range(4))
        assert batches.length == 9
        assert first["fresh"].all()
        assert not second["fresh"].any()
        assert not third["fresh"].any()
        for before, after in ((first, second), (second, third)):
            np.testing.assert_array_equal(before["y"][:, -1], after["x"][:, 0])
        for name, value in first.items():
            np.testing.assert_array_equal(again[name], value)
        read = np.concatenate([b["x"] for b in (first, second, third)], 1)
        np.testing.assert_array_equal(read, TOKENS[:45].reshape(3, 15))

    def test_too_few(self):
        with pytest.raises(ValueError, match=r"15 tokens .*3 windows of 5.* 16"):
            streams(TOKENS[:15], 5, 3)
        assert streams(TOKENS[:16], 5, 3).length == 3


class TestLoadText:
    def test_python_docs(self):
        text = load_text()
        assert 300_000 < len(text.train) < 1_000_000
        assert len(text.test) == pytest.approx((len(text.train) + len(text.valid)) / 9, abs=1)
        assert len(text.valid) == pytest.approx(len(text.train) / 9, abs=1)
        assert text.vocabulary == "".join(sorted(set(text.vocabulary)))
        assert "Python" in text.note
        sentence = 'The "break" statement\n'
        assert text.decode(text.encode(sentence)) == sentence
        assert text.encode(sentence)[0] == text.vocabulary.index("T")
        with pytest.raises(ValueError, match="'☃'"):
            text.encode("snow ☃ man")

    def test_a_file(self, tmp_path):
        path = tmp_path / "poem.txt"
        path.write_text("añb𝄞" * 250 + "z" * 111, encoding="utf-8")
        text = load_text(file=path)
        assert text.vocabulary == "abzñ𝄞"
        assert [len(part) for part in (text.train, text.valid, text.test)] == [899, 100, 112]
        assert text.train.dtype == text.valid.dtype == text.test.dtype == np.int32
        content = path.read_text(encoding="utf-8")
        assert text.decode(np.concatenate([text.train, text.valid, text.test])) == content
        assert re.match(rf"899 .*100 .*112 .*\b5 .*{path}", text.note)
        whole = load_text(file=path, valid=0)
        assert whole.valid is None
        assert re.match("999 .*112 ", whole.note)
        assert "validation" not in whole.note
        assert (whole.decode(whole.train), whole.decode(whole.test)) == (content[:999], content[999:])
        third = load_text(file=path, valid=1 / 3)
        assert (third.decode(third.train), third.decode(third.valid)) == (content[:666], content[666:999])
        with pytest.raises(ValueError, match="valid=1"):
            load_text(file=path, valid=1)

    def test_the_parts_of_wikitext2_are_its_files(self, tmp_path, monkeypatch):
        monkeypatch.setenv("JAXDL_DATA_DIR", str(tmp_path))
        contents = {"train": "ab" * 800, "valid": "v" * 77, "test": "t" * 99}
        (tmp_path / "wikitext-2").mkdir()
        for name, content in contents.items():
            (tmp_path / f"wikitext-2/{name}.txt").write_text(content)
        text, whole = load_text("wikitext2"), load_text("wikitext2", valid=0)
        assert {name: text.decode(getattr(text, name)) for name in contents} == contents
        assert text.vocabulary == "abtv"
        assert (whole.valid, whole.vocabulary) == (None, "abt")
        (tmp_path / "wikitext-2/test.txt").unlink()
        with pytest.raises(MissingData, match=r"wikitext-2/test\.txt"):
            load_text("wikitext2")

    def test_bad_input_is_one_line(self, tmp_path, monkeypatch):
        monkeypatch.delenv("JAXDL_DATA_DIR", raising=False)
        (tmp_path / "short.txt").write_text("To be")
        (tmp_path / "latin1.txt").write_bytes(b"caf\xe9 " * 500)
        with pytest.raises(DataError, match=r"short\.txt: .*\b5 characters.* 1,000"):
            load_text(file=tmp_path / "short.txt")
        with pytest.raises(DataError, match=r"latin1\.txt: .*UTF-8.* line 1, byte 3"):
            load_text(file=tmp_path / "latin1.txt")
        with pytest.raises(MissingData, match=r"none\.txt: "):
            load_text(file=tmp_path / "none.txt")
        with pytest.raises(MissingData, match="--data_dir"):
            load_text("tinyshakespeare")
        with pytest.raises(MissingData, match=r"wikitext-2/train\.txt"):
            load_text("wikitext2", tmp_path)
        with pytest.raises(ValueError, match=r"'shakespeare'.* python_docs, tinyshakespeare"):
            load_text("shakespeare")

    def test_original_files(self, data_dir):
        shakespeare = load_text("tinyshakespeare", data_dir)
        rest = len(shakespeare.train) + len(shakespeare.valid)
        assert (rest, len(shakespeare.test)) == (1_003_854, 111_540)  # as nanoGPT's prepare.py prints
        assert len(shakespeare.valid) == 100_386
        assert hashlib.sha256(shakespeare.test).hexdigest()[:16] == "456be81362fa5b40"
        whole = load_text("tinyshakespeare", data_dir, valid=0)
        np.testing.assert_array_equal(np.concatenate([shakespeare.train, shakespeare.valid]), whole.train)
        assert len(shakespeare.vocabulary) == 65
        assert shakespeare.decode(shakespeare.train[:14]) == "First Citizen:"
        wiki = load_text("wikitext2", data_dir)
        assert wiki.decode(wiki.train[:25]) == " \n = Valkyria Chronicles "
        for name, part in (("train", wiki.train), ("valid", wiki.valid), ("test", wiki.test)):
            assert len(part) == len((data_dir / "wikitext-2" / f"{name}.txt").read_text(encoding="utf-8"))
