"""A plan on a branch of a real git repository: commits and their words, no-ops, refusals, and an untouched checkout."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from sample_plan import backtest, daily_load, empty_plan, group, key, resize, train_window

from advisor.contract import Refusal
from advisor.writeback.git import ApplyRequest, apply_plan
from egpu_runtime.contract.process import Failure

MANIFEST = """\
# {name}
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: vision}}
spec:
  template:
    spec:
      containers:
      - name: {name}
        resources:
          limits:
            egpu.io/gpu: 1
            egpu.io/gpu-memory: 98304 # MiB
"""
OCR, ASR, LOST = (key(name, namespace="vision") for name in ("ocr", "asr", "lost"))


def git(folder, *arguments):
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with two manifests below ``deploy/`` and no author configured."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    for variable in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "checkout"
    (folder / "deploy").mkdir(parents=True)
    for name in ("ocr", "asr"):
        (folder / "deploy" / f"{name}.yaml").write_bytes(MANIFEST.format(name=name).replace("\n", "\r\n").encode())
    (folder / "README.md").write_text("hello\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=Someone", "-c", "user.email=someone@example.org", "commit", "-q", "-m", "start")
    return folder


def two_resizes(**changes):
    plan = empty_plan(resizes=(resize(OCR, (98304, 24576), (100, 35)), resize(ASR, (98304, 49152))))
    return replace(plan, **changes)


def apply(plan, checkout, *, dry_run=False, branch=None, dialect="egpu"):
    return apply_plan(plan, ApplyRequest(checkout / "deploy", branch, dialect, dry_run))


def fingerprint(checkout):
    """Everything a user would notice: refs, index, status and the bytes of all files."""
    files = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file() and ".git" not in path.parts}
    return git(checkout, "for-each-ref"), git(checkout, "status", "--porcelain"), git(checkout, "ls-files", "-s"), files


def check_failure(plan, checkout, reason, **how):
    before = fingerprint(checkout)
    with pytest.raises(Failure, match=reason) as caught:
        apply(plan, checkout, **how)
    assert "\n" not in str(caught.value)
    assert fingerprint(checkout) == before


def test_one_commit_a_workload_with_its_evidence(checkout):
    plan = two_resizes()
    _, _, index, files = fingerprint(checkout)
    result = apply(plan, checkout)
    assert result.branch == "egpu/plan-9f2c41d07b"
    log = git(checkout, "log", "--reverse", "--format=%H %s", f"main..{result.branch}").splitlines()
    assert log == [f"{commit.sha} {commit.subject}" for commit in result.commits]
    assert [commit.subject for commit in result.commits] == [
        "vision/ocr: GPU memory 96 GiB -> 24 GiB, compute 100 % -> 35 %",
        "vision/asr: GPU memory 96 GiB -> 48 GiB",
    ]
    body = git(checkout, "log", "-1", "--format=%B", result.commits[0].sha)
    assert "of a card, p99 28 %" in body
    assert "compute:" not in git(checkout, "log", "-1", "--format=%B", result.commits[1].sha)
    for words in (
        plan.resizes[0].reason.split(",")[0],
        "memory: 96 GiB (98304 MiB) -> 24 GiB (24576 MiB)",
        "confidence: high",
        backtest().label.split(",")[0],
        "Plan: 9f2c41d07b",
        "Workload: vision/Deployment/ocr container ocr",
    ):
        assert words in body
    diff = git(checkout, "diff", "--numstat", "main", result.commits[0].sha).split()
    assert diff == ["2", "1", "deploy/ocr.yaml"]
    content = subprocess.run(
        ["git", "-C", str(checkout), "show", f"{result.branch}:deploy/ocr.yaml"], capture_output=True, check=True
    ).stdout
    expected = MANIFEST.format(name="ocr").replace("98304 # MiB\n", "24576 # MiB\n            egpu.io/gpu-cores: 35\n")
    assert content == expected.replace("\n", "\r\n").encode()
    assert fingerprint(checkout)[2:] == (index, files)
    assert git(checkout, "status", "--porcelain") == ""
    assert git(checkout, "branch", "--show-current") == "main\n"
    assert git(checkout, "fsck", "--strict") == ""


def test_the_author_is_git_s_or_the_stated_stand_in(checkout):
    first = apply(two_resizes(), checkout)
    assert git(checkout, "log", "-1", "--format=%an <%ae> %cn", first.branch) == (
        "egpu-advisor <egpu-advisor@localhost> egpu-advisor\n"
    )
    git(checkout, "config", "user.name", "Ada")
    git(checkout, "config", "user.email", "ada@example.org")
    second = apply(two_resizes(), checkout, branch="by-ada")
    assert git(checkout, "log", "-1", "--format=%an <%ae>", second.branch) == "Ada <ada@example.org>\n"


def test_the_environment_names_the_author_but_not_another_repository(checkout, tmp_path, monkeypatch):
    git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Grace")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    result = apply(two_resizes(), checkout)
    for name in ("GIT_DIR", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name)
    assert git(checkout, "log", "-1", "--format=%an %cn", result.branch) == "Grace egpu-advisor\n"
    assert git(tmp_path / "other", "for-each-ref") == ""


def test_the_second_time_is_a_no_op(checkout):
    first = apply(two_resizes(), checkout)
    after_first = fingerprint(checkout)
    second = apply(two_resizes(), checkout)
    assert (second.commits, second.text, second.already_applied) == ((), "", (OCR, ASR))
    git(checkout, "merge", "-q", "--ff-only", first.branch)
    git(checkout, "branch", "-q", "-D", first.branch)
    merged = fingerprint(checkout)
    third = apply(two_resizes(), checkout)
    assert (third.commits, third.already_applied) == ((), (OCR, ASR))
    assert fingerprint(checkout) == merged
    assert after_first != merged


def test_a_dry_run_shows_a_diff_that_git_takes_and_touches_nothing(checkout):
    before = fingerprint(checkout)
    objects = sorted((checkout / ".git" / "objects").rglob("*"))
    result = apply(two_resizes(), checkout, dry_run=True)
    assert fingerprint(checkout) == before
    assert sorted((checkout / ".git" / "objects").rglob("*")) == objects
    assert [commit.sha for commit in result.commits] == ["", ""]
    patch = checkout.parent / "plan.diff"
    patch.write_bytes(result.text.encode())
    git(checkout, "apply", "--check", str(patch))
    git(checkout, "apply", str(patch))
    assert b"egpu.io/gpu-memory: 24576 # MiB\r\n" in (checkout / "deploy" / "ocr.yaml").read_bytes()


def test_what_cannot_be_found_is_listed_and_the_rest_is_done(checkout):
    plan = two_resizes(resizes=(resize(LOST, (98304, 24576)), resize(ASR, (98304, 49152))))
    result = apply(plan, checkout)
    assert [each.workload for each in result.not_found] == [LOST]
    assert [commit.workload for commit in result.commits] == [ASR]
    assert result.notes == "not found: vision/Deployment/lost/lost: no manifest defines it\n"


def test_a_manifest_that_has_changed_since_is_refused(checkout):
    manifest = checkout / "deploy" / "ocr.yaml"
    manifest.write_bytes(manifest.read_bytes().replace(b"98304", b"65536"))
    git(checkout, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "by hand")
    result = apply(two_resizes(), checkout)
    assert [(each.workload, each.reason) for each in result.refused] == [
        (OCR, "changed since the plan: egpu.io/gpu-memory is 65536, the plan saw 98304")
    ]
    assert [commit.workload for commit in result.commits] == [ASR]


def test_members_of_an_oversubscribed_group_get_its_name_and_a_train_window_gives_priority(checkout):
    loads = (daily_load(low=1000, high=60000, hours=(8, 20)), daily_load(low=60000, high=1000, hours=(8, 20)))
    plan = two_resizes(groups=(group("north-h20-1", (OCR, ASR), loads),), train_windows=(train_window(OCR),))
    result = apply(plan, checkout)
    for name in ("ocr", "asr"):
        text = git(checkout, "show", f"{result.branch}:deploy/{name}.yaml")
        assert "      annotations:\n        egpu.io/oversubscription-group: north-h20-1\n" in text
    assert "egpu.io/priority: 0" in git(checkout, "show", f"{result.branch}:deploy/ocr.yaml")
    assert "join north-h20-1, high priority" in result.commits[0].subject
    assert max(len(commit.subject) for commit in result.commits) <= 72
    assert "false idle: 1.2 %" in git(checkout, "log", "-1", "--format=%B", result.commits[0].sha)


def test_a_workload_of_two_card_models_is_not_shrunk_for_one_of_them(checkout):
    other = replace(OCR, gpu_model="NVIDIA-T4")
    plan = two_resizes(refusals=(Refusal("idle_quota", other, "history 9 h < 3 d"),))
    result = apply(plan, checkout)
    assert [each.reason for each in result.refused] == [
        "also runs on NVIDIA-T4, where it is not sized: history 9 h < 3 d"
    ]
    assert [commit.workload for commit in result.commits] == [ASR]


def test_hami_has_no_group_and_says_so(checkout):
    loads = (daily_load(low=1000, high=60000, hours=(8, 20)),) * 2
    plan = empty_plan(groups=(group("north-h20-1", (OCR, ASR), loads),))
    result = apply(plan, checkout, dialect="hami")
    assert {each.reason for each in result.refused} == {"group north-h20-1: hami has no oversubscription group to join"}
    assert result.commits == ()


def test_an_unfit_checkout_is_refused_in_one_sentence(checkout, tmp_path, monkeypatch):
    plan = two_resizes()
    apply(plan, checkout)
    check_failure(two_resizes(plan_id="other"), checkout, "exists and does not hold this plan", branch="main")
    check_failure(plan, checkout, "is not a branch name", branch="bad..name")
    (checkout / "deploy" / "asr.yaml").write_text("half: done\n")
    check_failure(plan, checkout, "changes that are not committed, deploy/asr.yaml among them")
    check_failure(plan, checkout, "changes that are not committed", dry_run=True)
    (tmp_path / "elsewhere" / "deploy").mkdir(parents=True)
    with pytest.raises(Failure, match="is not in a git work tree"):
        apply(plan, tmp_path / "elsewhere")
    with pytest.raises(Failure, match="is not a folder"):
        apply(plan, tmp_path / "nowhere")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failure, match="git was not found"):
        apply(plan, checkout)


def test_dirt_outside_the_manifests_does_not_matter(checkout):
    (checkout / "README.md").write_text("half a sentence\n")
    assert len(apply(two_resizes(), checkout).commits) == 2


def test_a_manifest_that_no_commit_holds_is_dirt_and_a_note_is_not(checkout):
    (checkout / "deploy" / "notes.txt").write_text("mine\n")
    assert apply(two_resizes(), checkout, dry_run=True).text
    (checkout / "deploy" / "new").mkdir()
    (checkout / "deploy" / "new" / "lost.yaml").write_text("a: 1\n")
    check_failure(two_resizes(), checkout, "not committed, deploy/new/lost.yaml among them")


def test_an_empty_repository_is_refused(tmp_path):
    (tmp_path / "deploy").mkdir()
    git(tmp_path, "init", "-q")
    with pytest.raises(Failure, match="without a commit"):
        apply(two_resizes(), Path(tmp_path))
