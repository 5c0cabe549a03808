package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"gitlab.com/slipway/slipway/pkg/tool"

	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

// slipwayVersion is the tag by which the examples include the templates.
const slipwayVersion = "1.0.0"

// pushSlipway puts the working tree, as it is, into the project slipway/slipway
// of the sandbox's GitLab and tags it. It works in a repository of its own and
// does not touch the index or the objects of the working tree's.
func (b *Box) pushSlipway(ctx context.Context) error {
	g := snapshotGit{
		repo: b.path("snapshot.git"), tree: b.Root, token: b.secrets.GitLabToken,
		marks: []string{process.Mark + "=" + b.Dir, process.PartMark + "=" + snapshotPart},
	}
	if err := b.clearSnapshot(ctx, g.repo); err != nil {
		return err
	}
	remote := "http://" + b.addr("gitlab") + "/slipway/slipway.git"
	if !exists(g.repo) {
		aside := g.repo + ".new"
		if err := os.RemoveAll(aside); err != nil {
			return err
		}
		if _, err := g.run(ctx, nil, "init", "-q", "--bare", "-b", "main", aside); err != nil {
			return err
		}
		if err := os.Rename(aside, g.repo); err != nil {
			return err
		}
	}
	tree, err := g.snapshot(ctx)
	if err != nil {
		return err
	}
	if err := g.fetch(ctx, remote); err != nil {
		return err
	}
	head, _ := g.run(ctx, nil, "rev-parse", "-q", "--verify", "refs/sandbox/main")
	if head != "" {
		had, err := g.run(ctx, nil, "rev-parse", head+"^{tree}")
		if err != nil {
			return err
		}
		tagged, _ := g.run(ctx, nil, "rev-parse", "-q", "--verify", "refs/sandbox/tag^{commit}")
		if had == tree && tagged == head {
			return nil
		}
		if had == tree {
			return b.pushed(head, g.push(ctx, remote, head))
		}
	}
	args := []string{"commit-tree", tree, "-m", "The working tree"}
	if head != "" {
		args = append(args, "-p", head)
	}
	commit, err := g.run(ctx, nil, args...)
	if err != nil {
		return err
	}
	return b.pushed(commit, g.push(ctx, remote, commit))
}

// snapshotPart is the step's mark on its git processes.
const snapshotPart = "slipway-project"

// clearSnapshot ends the git of an `up` that was killed, and takes its locks.
// Whoever comes here has the sandbox's lock: no other git is at work.
func (b *Box) clearSnapshot(ctx context.Context, repo string) error {
	if err := b.clear(ctx, snapshotPart); err != nil {
		return err
	}
	return filepath.WalkDir(repo, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("looking for locks of git: %w", err)
		case d.Name() == "objects":
			return fs.SkipDir
		case strings.HasSuffix(path, ".lock"):
			return os.Remove(path)
		}
		return nil
	})
}

func (b *Box) pushed(commit string, err error) error {
	if err == nil {
		b.change("pushed the working tree to slipway/slipway as %s (%.12s)", slipwayVersion, commit)
	}
	return err
}

// snapshotGit runs git in the snapshot's repository. Its processes carry the
// marks, so that `down` ends them.
type snapshotGit struct {
	repo, tree, token string
	marks             []string
}

// snapshot writes the tracked and the untracked files that are not ignored
// into a tree and returns its name.
func (g snapshotGit) snapshot(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "git", "-C", g.tree, "ls-files", "-z", "-co", "--exclude-standard")
	var list, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &list, &stderr
	if err := process.RunChild(cmd); err != nil {
		return "", tool.Hint(fmt.Errorf("listing the files of %q: %w: %s", g.tree, err, strings.TrimSpace(stderr.String())),
			"the sandbox pushes this repository to its GitLab: run it in a git clone")
	}
	// The index is made anew each time: one that stays would keep files that
	// are ignored since.
	if err := os.RemoveAll(filepath.Join(g.repo, "index")); err != nil {
		return "", err
	}
	if _, err := g.run(ctx, list.Bytes(), "update-index", "-z", "--add", "--remove", "--stdin"); err != nil {
		return "", err
	}
	return g.run(ctx, nil, "write-tree")
}

func (g snapshotGit) fetch(ctx context.Context, remote string) error {
	there, err := g.run(ctx, nil, "ls-remote", remote, "refs/heads/main", "refs/tags/"+slipwayVersion)
	if err != nil {
		return err
	}
	specs := []string{}
	if strings.Contains(there, "refs/heads/main") {
		specs = append(specs, "+refs/heads/main:refs/sandbox/main")
	}
	if strings.Contains(there, "refs/tags/") {
		specs = append(specs, "+refs/tags/"+slipwayVersion+":refs/sandbox/tag")
	}
	for _, ref := range []string{"refs/sandbox/main", "refs/sandbox/tag"} {
		if _, err := g.run(ctx, nil, "update-ref", "-d", ref); err != nil {
			return err
		}
	}
	if len(specs) == 0 {
		return nil
	}
	_, err = g.run(ctx, nil, append([]string{"fetch", "-q", "--no-tags", remote}, specs...)...)
	return err
}

// push moves main and the tag to the commit, without a pipeline.
func (g snapshotGit) push(ctx context.Context, remote, commit string) error {
	_, err := g.run(ctx, nil, "push", "-q", "-o", "ci.skip", remote, commit+":refs/heads/main", "+"+commit+":refs/tags/"+slipwayVersion)
	return err
}

// run runs git with nothing of the user's configuration. The token goes in by
// the environment: arguments can be read by everyone on the machine.
func (g snapshotGit) run(ctx context.Context, stdin []byte, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = g.tree
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + g.repo,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=sandbox", "GIT_AUTHOR_EMAIL=sandbox@example.com", "GIT_COMMITTER_NAME=sandbox", "GIT_COMMITTER_EMAIL=sandbox@example.com",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=credential.helper",
		`GIT_CONFIG_VALUE_0=!f() { echo username=root; echo "password=$SANDBOX_TOKEN"; }; f`, "SANDBOX_TOKEN=" + g.token,
	}
	cmd.Env = append(cmd.Env, g.marks...)
	if args[0] != "init" {
		cmd.Env = append(cmd.Env, "GIT_DIR="+g.repo, "GIT_WORK_TREE="+g.tree, "GIT_INDEX_FILE="+filepath.Join(g.repo, "index"))
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := process.RunChild(cmd); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && stderr.Len() == 0 {
			return "", err
		}
		return "", fmt.Errorf("running git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}
