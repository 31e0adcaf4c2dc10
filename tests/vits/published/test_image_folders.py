"""What a folder holds beside images, and images that are not what they seem: named, never in silence. Exact."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vitdyn.cli import main
from vitdyn.cli.inspect import Inspect
from vitdyn.plotting import save_figure
from vitdyn.plotting.heads import draw_heads
from vitdyn.vits import METRICS, HeadMetrics, Preprocessing, find_images, load_images

HEADS = 4
SMALL = Preprocessing(resize=18, crop=(16, 16))
USUAL = Preprocessing(resize=256, crop=(224, 224))


def picture(seed=0, size=(70, 50)):
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    )


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    picture().save(root / "a.png")
    return root


@pytest.fixture
def inspect(make_source, names, write, folder, tmp_path, undrawn):
    """The command on one small model, without its drawing; options go before."""

    def run(**options):
        path = write(names.timm(make_source().state_dict()), options.pop("name", "model.pth"))
        settings = {
            "checkpoints": (path,),
            "images": folder,
            "heads": HEADS,
            "out": tmp_path / "out",
        } | options
        return Inspect(**settings)()

    return run


def reasons(found):
    return {path.name: reason for path, reason in found.skipped}


def test_hidden_copies_are_passed_over_and_counted(folder, inspect, capsys):
    for place in (".ipynb_checkpoints", ".git/objects"):
        (folder / place).mkdir(parents=True)
        picture().save(folder / place / "a-checkpoint.png")
    picture().save(folder / ".b.png")
    (folder / ".DS_Store").write_bytes(b"x")
    found = find_images(folder)
    assert [path.name for path in found.paths] == ["a.png"] and found.hidden == 4 and found.skipped == ()
    inspect()
    printed = capsys.readouterr().out
    assert "1 images of" in printed and "passed over 4 hidden files and folders" in printed


def test_a_hidden_folder_is_read_where_it_is_asked_for(tmp_path):
    (tmp_path / ".photographs").mkdir()
    picture().save(tmp_path / ".photographs" / "a.png")
    assert len(find_images(tmp_path / ".photographs").paths) == 1


def test_a_second_run_does_not_read_what_the_first_one_drew(folder, inspect, capsys):
    """Neither in the folder of images itself nor in one inside it: the same images, so files of the same names."""
    for out in (folder, folder / "results"):
        inspect(out=out)
        first = {path: path.read_bytes() for path in out.glob("inspect-*")}
        inspect(out=out)
        assert {path: path.read_bytes() for path in out.glob("inspect-*")} == first and len(first) == 4
    assert capsys.readouterr().out.count("1 images of") == 4
    found = find_images(folder)
    assert [path.name for path in found.paths] == ["a.png"]
    assert len(found.skipped) == 8


def test_a_picture_that_vitdyn_drew_is_known_under_any_name(folder):
    values = {name: np.full((1, 1, 1), 0.5) for name in METRICS}
    save_figure(draw_heads([HeadMetrics(label="one", values=values, top=1, patches=4)]), folder / "holiday")
    assert "a picture that vitdyn drew" in reasons(find_images(folder))["holiday.png"]


def test_links_and_what_is_no_file_are_named(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    picture(1).save(tmp_path / "elsewhere" / "b.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "friend.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    (folder / "round").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "pipe.png")
    found = find_images(folder)
    assert [path.name for path in found.paths] == ["a.png", "friend.png"]
    assert reasons(found) == {
        "linked": "a linked folder, which is not followed",
        "round": "a linked folder, which is not followed",
        "dangling.png": "a link to nothing",
        "pipe.png": "no file",
    }
    assert len(find_images(folder / "linked").paths) == 1, "named itself, it is read"


def test_what_links_lead_to_counts_once(folder, tmp_path):
    """As in git-annex, where every file is a link into a hidden folder, and in copies made of links."""
    (folder / ".store").mkdir()
    picture(1).save(folder / ".store" / "1", "PNG")
    for name in ("one.png", "two.png"):
        (folder / name).symlink_to(folder / ".store" / "1")
    (folder / "again.png").symlink_to(folder / "a.png")
    found = find_images(folder)
    assert [path.name for path in found.paths] == ["a.png", "one.png"]
    assert reasons(found) == dict.fromkeys(("again.png", "two.png"), "a link to a file that is read already")


def test_an_image_that_goes_away_meanwhile_is_named(folder, complaint):
    paths = find_images(folder).paths
    paths[0].unlink()
    with complaint("image", "cannot be read"):
        load_images(paths, SMALL)
    with complaint("paths", "at least one"):
        load_images([], SMALL)


@pytest.mark.parametrize("wrong", [None, 3, ["a.png"], "a\0b"])
def test_what_is_no_path_is_refused(wrong, complaint):
    from vitdyn.vits import read_checkpoint

    with complaint("images", "path"):
        find_images(wrong)
    with complaint("paths", "path"):
        load_images([wrong], SMALL)
    with complaint("checkpoint", "path"):
        read_checkpoint(wrong)


def test_only_formats_that_decode_in_process_are_opened(folder, tmp_path, monkeypatch):
    """Pillow runs gs from PATH for EPS, whatever the file is called."""
    ran = tmp_path / "ran"
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "gs"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    picture().save(folder / "b.eps")
    for name in ("b.png", "b"):
        (folder / name).write_bytes((folder / "b.eps").read_bytes())
    picture().save(folder / "c.ppm")
    picture().save(folder / "d.ico")
    found = find_images(folder)
    assert not ran.exists() and [path.name for path in found.paths] == ["a.png"]
    told = reasons(found)
    assert told["b.png"] == told["b"] == "no image"
    assert all(told[name].startswith(f"{kind} is not read, only PNG") for name, kind in
               (("b.eps", "EPS"), ("c.ppm", "PPM"), ("d.ico", "ICO")))  # fmt: skip
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    with Image.open(folder / "b.eps") as image, pytest.raises((OSError, EOFError)):
        image.load()
    assert ran.exists(), "the control: opened without a list of formats, it would have run"


@pytest.mark.parametrize("size", [(1, 65_535), (65_535, 1), (1, 30_000), (3, 9_000)])
def test_thin_images_are_left_out_before_they_are_resized(size, folder, complaint):
    Image.new("L", size).save(folder / "thin.png")
    found = find_images(folder, preprocessings=(SMALL, USUAL))
    assert [path.name for path in found.paths] == ["a.png"]
    assert "so thin that it would be resized to" in reasons(found)["thin.png"]
    with complaint("image", "crop it"):
        load_images([folder / "thin.png"], USUAL)


def test_images_that_are_only_long_are_read(folder):
    Image.new("L", (1000, 20)).save(folder / "panorama.png")
    assert load_images(find_images(folder, preprocessings=(USUAL,)).paths, USUAL).shape == (2, 3, 224, 224)


def png(width, height, *, bits=8, colour=2, data=b""):
    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "size", [(11_600, 11_600), (13_000, 13_000), (60_000, 60_000), (70_000, 2), (2, 70_000)]
)
@pytest.mark.parametrize("limit", [True, False])
def test_images_are_judged_by_the_size_that_they_claim(size, limit, folder, monkeypatch):
    """Pillow's own limit is twice ours, and a program may have lifted it."""
    if not limit:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (folder / "bomb.png").write_bytes(png(*size))
    made = []
    monkeypatch.setattr(Image.core, "new", lambda mode, size: made.append(size) or pytest.fail("decoded"))
    monkeypatch.setattr(
        Image.core, "fill", lambda mode, size, *rest: made.append(size) or pytest.fail("decoded")
    )
    (folder / "a.png").unlink()
    with pytest.raises(ValueError, match=r"\Aimages = [^\n]*holds no image"):
        find_images(folder)
    assert made == []


def test_every_mode_of_eight_bits_is_read_and_no_other(folder):
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        picture().convert(mode).save(folder / f"{mode}.png")
    for mode in ("CMYK", "YCbCr", "LAB", "RGBX"):
        picture().convert("RGB" if mode == "LAB" else mode).convert(mode).save(folder / f"{mode}.tiff")
    (folder / "deep.png").write_bytes(
        png(4, 4, bits=16, data=b"".join(b"\0" + bytes(range(24)) for _ in range(4)))
    )
    for name, kind in (("I;16", np.uint16), ("I", np.int32), ("F", np.float32)):
        Image.fromarray(np.ones((9, 9), kind)).save(folder / f"{name[:1]}{np.dtype(kind).itemsize}.tiff")
    found = find_images(folder, preprocessings=(SMALL,))
    assert found.notes == (
        "1 of sixteen bits a colour, of which the upper eight are read",
        "2 with transparency, which is dropped",
    )
    assert len(found.paths) == 12 and load_images(found.paths, SMALL).isfinite().all()
    assert reasons(found).keys() == {"I2.tiff", "I4.tiff", "F4.tiff"}
    assert all("eight bits" in reason for reason in reasons(found).values())


def test_frames_and_rotations_are_said_and_the_first_frame_is_read(folder, inspect, capsys):
    frames = [picture(seed) for seed in range(3)]
    for name in ("b.gif", "b.webp", "b.tiff"):
        frames[0].save(folder / name, save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(folder / "c.jpg", exif=exif)
    (folder / "d.jpg").write_bytes((folder / "c.jpg").read_bytes().replace(b"Exif\0\0MM", b"Exif\0\0??"))
    inspect()
    printed = capsys.readouterr().out
    assert "  3 of several frames, of which the first is read\n" in printed
    assert (
        "  1 with a tag that asks for a rotation, which is ignored\n" in printed and "6 images of" in printed
    )
    for name in ("b.gif", "b.webp", "b.tiff", "c.jpg"):
        with Image.open(folder / name) as image:
            np.testing.assert_array_equal(load_images([folder / name], SMALL)[0], SMALL(image))


@pytest.mark.parametrize("name", ["b.png", "b.jpg", "b.webp", "b.bmp", "b.gif", "b.tiff"])
def test_images_that_were_cut_short_are_named(name, folder):
    picture(size=(200, 200)).save(folder / name)
    whole = (folder / name).read_bytes()
    for part in (0, 1, 20, len(whole) // 2):
        (folder / name).write_bytes(whole[:part])
        found = find_images(folder)
        assert [path.name for path in found.paths] == ["a.png"] and reasons(found).keys() == {name}


def test_a_folder_without_an_image_says_what_it_holds(tmp_path, complaint):
    (tmp_path / "empty").mkdir()
    with complaint("images", "(0 other files)"):
        find_images(tmp_path / "empty")
    (tmp_path / "empty" / ".a.png").write_bytes(b"")
    (tmp_path / "empty" / "b.txt").write_bytes(b"")
    with complaint("images", "(1 other files, 1 hidden)"):
        find_images(tmp_path / "empty")
    with complaint("images", "no such folder"):
        find_images(tmp_path / "empty" / "b.txt")


@pytest.fixture
def odd_name(folder):
    """Write an image and a text under a name of bytes; skip where the file system takes no such name."""

    def make(name):
        try:
            for end in (b".png", b".txt"):
                with open(os.path.join(os.fsencode(folder), name + end), "wb") as file:  # noqa: PTH118, PTH123
                    file.write((folder / "a.png").read_bytes() if end == b".png" else b"text")
        except OSError:
            pytest.skip("this file system takes no such name")

    return make


def test_names_that_are_no_utf_8_end_nothing(folder, odd_name, inspect, capfd, tmp_path):
    odd_name(b"caf\xe9")
    try:
        inspect(name="mod\udce9le.pth")
    except OSError:
        pytest.skip("this file system takes no such name")
    printed = capfd.readouterr().out
    assert (
        "2 images of" in printed
        and "left out caf\\udce9.txt: no image" in printed
        and "mod\\udce9le\n" in printed
    )
    (table,) = (tmp_path / "out").glob("*-heads.csv")
    assert "mod\\udce9le,1,all" in table.read_text(encoding="utf-8")


def test_escape_sequences_and_line_ends_in_names_are_escaped(folder, odd_name, inspect, capfd, tmp_path):
    odd_name("two\nlines\x1b[2J\u202e".encode())
    inspect(name="mo\rdel\x1b]0;title\x07.pth")
    printed = capfd.readouterr()
    assert all(each.isprintable() or each == "\n" for each in printed.out)
    assert (
        "left out two\\nlines\\x1b[2J\\u202e.txt" in printed.out
        and "mo\\rdel\\x1b]0;title\\x07\n" in printed.out
    )
    assert not any(each in printed.err for each in ("\x1b]0", "\x1b[2J", "\x07"))
    for table in (tmp_path / "out").glob("*.csv"):
        assert all(each.isprintable() for line in table.read_text().splitlines() for each in line)


def test_names_inside_a_checkpoint_are_escaped(folder, make_source, names, write, capfd, undrawn):
    state = {"model": names.timm(make_source().state_dict()), "\x1b[2J\n": 1}
    assert (
        main(["inspect", str(write(state)), "--images", str(folder), "--heads", "4", "--out", str(folder)])
        == 0
    )
    assert "not read: \\x1b[2J\\n" in capfd.readouterr().out


def test_an_interrupt_promises_no_checkpoint(folder, make_source, names, write, capfd, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("vitdyn.vits.measure_heads", stop)
    path = write(names.timm(make_source().state_dict()))
    assert (
        main(["inspect", str(path), "--images", str(folder), "--heads", "4", "--out", str(folder / "out")])
        == 130
    )
    said = capfd.readouterr().err
    assert "interrupted" in said and "checkpoint" not in said
    assert not any((folder / "out").iterdir())


def test_a_model_of_one_channel_is_refused_before_any_image_is_read(folder, make_source, names, write, complaint,
                                                                   tmp_path, monkeypatch):  # fmt: skip
    path = write(names.timm(make_source(num_channels=1).state_dict()), "grey.pth")
    monkeypatch.setattr("vitdyn.vits.find_images", None)
    with complaint("checkpoint", "takes images of 1 channel"):
        Inspect(checkpoints=(path,), images=folder, heads=HEADS, out=tmp_path / "out")()
