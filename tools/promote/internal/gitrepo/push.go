package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Edit returns the files to write into the tree as it stands now, or none
// where it already says what is wanted. It is asked again after each race, and
// may refuse.
type Edit func(ctx context.Context) (map[string][]byte, error)

// attempts is how often a push that lost a race is tried.
const attempts = 8

// Commit writes, commits and pushes what edit wants, and reads back that the
// branch holds it. It returns the commit, or "" where there was nothing to do.
func (r *Repo) Commit(ctx context.Context, message string, edit Edit) (string, error) {
	var last error
	for try := range attempts {
		if try > 0 {
			if err := r.refresh(ctx); err != nil {
				return "", err
			}
		}
		commit, err := r.once(ctx, message, edit)
		if err != nil || commit == "" {
			return "", err
		}
		if last = r.push(ctx); last == nil {
			return commit, r.readBack(ctx, commit)
		}
		if tool.CodeOf(last) == tool.Temporary && r.readBack(ctx, commit) == nil {
			return commit, nil // only the reply was lost
		}
		if !lostRace(last) {
			return "", fmt.Errorf("pushing to %q: %w", r.remote.Branch, last)
		}
		fmt.Fprintf(r.log, "somebody else pushed to %s meanwhile: trying again on top of it\n", r.remote.Branch)
	}
	return "", tool.Exit(tool.Temporary, fmt.Errorf("pushing to %q: lost the race %d times: %w", r.remote.Branch, attempts, last))
}

func (r *Repo) once(ctx context.Context, message string, edit Edit) (string, error) {
	files, err := edit(ctx)
	if err != nil || len(files) == 0 {
		return "", err
	}
	for path, raw := range files {
		full := filepath.Join(r.dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return "", fmt.Errorf("writing %q: %w", path, err)
		}
		if err := os.WriteFile(full, raw, 0o644); err != nil {
			return "", fmt.Errorf("writing %q: %w", path, err)
		}
		if _, err := r.git(ctx, r.dir, "add", "--", path); err != nil {
			return "", err
		}
	}
	changed, err := r.git(ctx, r.dir, "diff", "--cached", "--name-only")
	if err != nil || strings.TrimSpace(changed) == "" {
		return "", err
	}
	if _, err := r.git(ctx, r.dir, "commit", "--quiet", "--message", message); err != nil {
		return "", err
	}
	return r.Head(ctx)
}

func (r *Repo) push(ctx context.Context) error {
	_, err := r.git(ctx, r.dir, "push", "--porcelain", "origin", "HEAD:refs/heads/"+r.remote.Branch)
	return err
}

// lostRace reports whether a push failed since the branch moved on.
func lostRace(err error) bool {
	var ge *gitError
	if !errors.As(err, &ge) {
		return false
	}
	for _, text := range []string{"[rejected]", "cannot lock ref", "failed to update ref", "reference already exists", "incorrect old value"} {
		if strings.Contains(ge.text, text) {
			return true
		}
	}
	return false
}

// refresh puts the clone on the branch's tip, without our commit.
func (r *Repo) refresh(ctx context.Context) error {
	if _, err := r.git(ctx, r.dir, "fetch", "--quiet", "--no-tags", "origin", r.remote.Branch); err != nil {
		return fmt.Errorf("fetching %q: %w", r.remote.Branch, err)
	}
	if _, err := r.git(ctx, r.dir, "reset", "--quiet", "--hard", "FETCH_HEAD"); err != nil {
		return fmt.Errorf("following %q: %w", r.remote.Branch, err)
	}
	return nil
}

// readBack asks the remote whether its branch holds the commit: at its tip, or
// below what somebody else has pushed since.
func (r *Repo) readBack(ctx context.Context, commit string) error {
	out, err := r.git(ctx, r.dir, "ls-remote", "origin", "refs/heads/"+r.remote.Branch)
	if err != nil {
		return tool.Exit(tool.Broken, fmt.Errorf("reading back %q: %w", r.remote.Branch, err))
	}
	if tip, _, _ := strings.Cut(out, "\t"); tip == commit {
		return nil
	}
	if _, err := r.git(ctx, r.dir, "fetch", "--quiet", "--no-tags", "origin", r.remote.Branch); err != nil {
		return tool.Exit(tool.Broken, fmt.Errorf("reading back %q: %w", r.remote.Branch, err))
	}
	if _, err := r.git(ctx, r.dir, "merge-base", "--is-ancestor", commit, "FETCH_HEAD"); err != nil {
		return tool.Exit(tool.Broken, fmt.Errorf("reading back %q: commit %q was pushed, but the branch does not hold it: %w", r.remote.Branch, commit, err))
	}
	return nil
}
