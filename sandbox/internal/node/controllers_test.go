package node

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// cgroup2 is a root of version 2 that answers as the kernel does: it gives no
// controllers while processes are in it.
type cgroup2 struct {
	dir  string
	busy error // what moving a process ends with
	log  []string
}

func (c *cgroup2) write(path, text string) error {
	rel, _ := filepath.Rel(c.dir, path)
	c.log = append(c.log, rel+" "+text)
	procs := filepath.Join(c.dir, "cgroup.procs")
	raw, err := os.ReadFile(procs)
	if err != nil {
		return err
	}
	if rel == "cgroup.subtree_control" {
		if len(raw) > 0 {
			return syscall.EBUSY
		}
		return nil
	}
	if c.busy != nil {
		return c.busy
	}
	return os.WriteFile(procs, []byte(strings.Replace(string(raw), text+"\n", "", 1)), 0o600)
}

func TestControllers(t *testing.T) {
	const all = "cgroup.subtree_control +cpuset +cpu +memory +pids"
	for name, c := range map[string]struct {
		procs string
		busy  error
		want  []string
	}{
		"no process is in the root": {want: []string{all}},
		"processes are moved":       {procs: "1\n17\n", want: []string{all, "slipway-host/cgroup.procs 1", "slipway-host/cgroup.procs 17", all}},
		"they cannot be moved":      {procs: "1\n", busy: syscall.EACCES, want: []string{all, "slipway-host/cgroup.procs 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			root := &cgroup2{dir: t.TempDir(), busy: c.busy}
			for file, text := range map[string]string{"cgroup.controllers": "cpuset cpu io memory pids rdma misc\n", "cgroup.procs": c.procs} {
				if err := os.WriteFile(filepath.Join(root.dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := enableControllers(root.dir, root.write)
			if !errors.Is(err, c.busy) || (err == nil) != (c.busy == nil) {
				t.Errorf("it ends with %v", err)
			}
			if err != nil && !strings.Contains(err.Error(), "+memory") {
				t.Errorf("the error %q names no controller", err)
			}
			if !slices.Equal(root.log, c.want) {
				t.Errorf("written was %q, want %q", root.log, c.want)
			}
		})
	}
}
