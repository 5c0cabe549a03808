package chain

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// git runs git in dir as the person who owns the examples. The token goes in
// by the environment, never by an argument or a remote's address.
func (c *Chain) git(ctx context.Context, dir string, args ...string) error {
	_, err := c.gitOutput(ctx, dir, args...)
	return err
}

func (c *Chain) gitOutput(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	basic := base64.StdEncoding.EncodeToString([]byte("oauth2:" + c.Box.GitLab.Token))
	cmd.Env = append(os.Environ(),
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Slipway demo", "GIT_AUTHOR_EMAIL=demo@example.com",
		"GIT_COMMITTER_NAME=Slipway demo", "GIT_COMMITTER_EMAIL=demo@example.com",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.extraHeader", "GIT_CONFIG_VALUE_0=Authorization: Basic "+basic)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("running git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// newFiles is an example's files, to be copied over those of a working copy.
type newFiles struct {
	fs.FS
	target string
}

// ReadDir leaves out what a build left behind, so that an example is pushed as
// it is in version control. It removes files of the same name from the target,
// since os.CopyFS overwrites none.
func (f newFiles) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(f.FS, name)
	if err != nil {
		return nil, err
	}
	var out []fs.DirEntry
	for _, e := range entries {
		switch e.Name() {
		case "app", "layer.tar", "image.env", "bundle.env", "slipway-report", "slipway-plan", ".terraform", ".gitlab-ci-local":
			continue
		}
		if !e.IsDir() {
			if err := os.Remove(filepath.Join(f.target, name, e.Name())); err != nil && !os.IsNotExist(err) {
				return nil, err
			}
		}
		out = append(out, e)
	}
	return out, nil
}
