// Package gitrepo is the environments repository as a program works on it: a
// clone of its own, so that nothing depends on the state of the job's folder,
// commits that survive a race, and a read-back of what was pushed.
package gitrepo

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Remote says where the repository is, and as whom it is spoken to.
type Remote struct {
	URL    string // without credentials
	Branch string
	User   string // gitlab-ci-token for a job token
	Token  string // reaches git in its environment only
	Email  string // of the commits' author
}

// Repo is a clone. Close removes it.
type Repo struct {
	remote Remote
	dir    string
	env    []string
	log    io.Writer
}

// Clone clones the branch into a folder of its own.
func Clone(ctx context.Context, r Remote, env func(string) string, log io.Writer) (*Repo, error) {
	dir, err := os.MkdirTemp("", "slipway-promote-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the clone: %w", err)
	}
	repo := &Repo{remote: r, dir: filepath.Join(dir, "clone"), env: environment(r, env), log: log}
	if _, err := repo.git(ctx, dir, "clone", "--quiet", "--no-tags", "--single-branch", "--branch", r.Branch, r.URL, repo.dir); err != nil {
		return nil, errors.Join(fmt.Errorf("cloning %q: %w", r.URL, err), repo.Close())
	}
	return repo, nil
}

// Header returns the credential as git sends it, for a log to keep out.
func (r Remote) Header() string {
	return base64.StdEncoding.EncodeToString([]byte(r.User + ":" + r.Token))
}

// environment builds git's whole environment. The credential goes in as a
// setting for the one address, so that it is in no argument, no URL and no
// file, and is sent nowhere else.
func environment(r Remote, env func(string) string) []string {
	out := []string{"LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "HOME=" + os.TempDir(),
		"GIT_AUTHOR_NAME=Slipway", "GIT_COMMITTER_NAME=Slipway", "GIT_AUTHOR_EMAIL=" + r.Email, "GIT_COMMITTER_EMAIL=" + r.Email}
	for _, name := range []string{"PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"} {
		if v := env(name); v != "" {
			out = append(out, name+"="+v)
		}
	}
	settings := [][2]string{{"core.hooksPath", os.DevNull}, {"commit.gpgSign", "false"}, {"http.followRedirects", "false"}, {"credential.helper", ""},
		{"http.lowSpeedLimit", "1"}, {"http.lowSpeedTime", "60"}} // a server that sends nothing for a minute is gone
	if r.Token != "" {
		settings = append(settings, [2]string{"http." + r.URL + ".extraHeader", "Authorization: Basic " + r.Header()})
	}
	out = append(out, fmt.Sprintf("GIT_CONFIG_COUNT=%d", len(settings)))
	for i, s := range settings {
		out = append(out, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, s[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, s[1]))
	}
	return out
}

// Close removes the clone.
func (r *Repo) Close() error {
	if err := os.RemoveAll(filepath.Dir(r.dir)); err != nil {
		return fmt.Errorf("removing the clone: %w", err)
	}
	return nil
}

// gitError is what git said.
type gitError struct {
	verb, text string
	err        error
}

func (e *gitError) Error() string { return "git " + e.verb + ": " + e.text }
func (e *gitError) Unwrap() error { return e.err }

func (r *Repo) git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Env = dir, r.env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, io.MultiWriter(&errs, r.log)
	err := cmd.Run()
	switch {
	case err == nil:
		return out.String(), nil
	case errors.Is(err, exec.ErrNotFound):
		return "", tool.Exit(tool.Usage, errors.New("git is not on PATH"), "the image must have git")
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	}
	text := strings.TrimSpace(errs.String() + "\n" + out.String())
	ge := &gitError{args[0], text, err}
	for _, denied := range []string{"Authentication failed", "error: 401", "error: 403", "could not read Username", "You are not allowed"} {
		if strings.Contains(text, denied) {
			return "", tool.Exit(tool.Denied, ge, "a job may push to its own project where Settings > CI/CD > Job token permissions allows Git push requests, and the branch lets the user push")
		}
	}
	for _, temporary := range []string{"Could not resolve host", "Failed to connect", "Couldn't connect", "error: 429", "error: 500", "error: 502", "error: 503", "error: 504",
		"Connection reset", "Empty reply", "hung up unexpectedly", "RPC failed", "early EOF", "Operation too slow"} {
		if strings.Contains(text, temporary) {
			return "", tool.Exit(tool.Temporary, ge)
		}
	}
	return "", ge
}

// Head returns the commit the clone stands at.
func (r *Repo) Head(ctx context.Context) (string, error) {
	out, err := r.git(ctx, r.dir, "rev-parse", "HEAD")
	return strings.TrimSpace(out), err
}

// Read returns a file at the tip, or nil where there is none.
func (r *Repo) Read(path string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(r.dir, filepath.FromSlash(path)))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %q of the repository: %w", path, err)
	}
	return raw, nil
}

// ReadAt returns a file at a commit, or nil where there is none.
func (r *Repo) ReadAt(ctx context.Context, commit, path string) ([]byte, error) {
	found, err := r.git(ctx, r.dir, "ls-tree", "--name-only", commit, "--", path)
	if err != nil {
		return nil, fmt.Errorf("reading %q at %q: %w", path, commit, err)
	}
	if strings.TrimSpace(found) == "" {
		return nil, nil
	}
	out, err := r.git(ctx, r.dir, "show", commit+":"+path)
	return []byte(out), err
}

// maxHistory bounds how far back a file is read.
const maxHistory = 200

// History returns the states of a file, the newest first.
func (r *Repo) History(ctx context.Context, path string) ([][]byte, error) {
	out, err := r.git(ctx, r.dir, "log", fmt.Sprintf("--max-count=%d", maxHistory), "--format=%H", "--", path)
	if err != nil {
		return nil, fmt.Errorf("reading the history of %q: %w", path, err)
	}
	var all [][]byte
	for commit := range strings.FieldsSeq(out) {
		raw, err := r.ReadAt(ctx, commit, path)
		if err != nil {
			return nil, err
		}
		if raw != nil {
			all = append(all, raw)
		}
	}
	return all, nil
}
