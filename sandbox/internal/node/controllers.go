package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// controllers are those of version 2 that kubelet wants to find enabled in its
// root, where the machine has them.
var controllers = []string{"cpu", "cpuset", "hugetlb", "memory", "pids"}

// hostCgroup is where processes go that are in the way of the controllers.
const hostCgroup = "slipway-host"

// enableControllers lets the cgroups below root have kubelet's controllers.
// The machine's own root gives them whatever is in it. The root of a container
// does so only when no process is in it itself: they go into a cgroup below it
// then, and stay there.
func enableControllers(root string, write func(path, text string) error) error {
	raw, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("reading the machine's cgroup controllers: %w", err)
	}
	var want []string
	for _, c := range strings.Fields(string(raw)) {
		if slices.Contains(controllers, c) {
			want = append(want, "+"+c)
		}
	}
	control := filepath.Join(root, "cgroup.subtree_control")
	const tries = 10 // a process may start another one while it is moved
	for try := 1; ; try++ {
		err := write(control, strings.Join(want, " "))
		if err == nil {
			return nil
		}
		if errors.Is(err, syscall.EBUSY) && try < tries {
			if err = moveProcesses(root, write); err == nil {
				continue
			}
		}
		return fmt.Errorf("enabling the cgroup controllers %q, which kubelet needs: %w", want, err)
	}
}

// moveProcesses moves the processes of root itself into a cgroup below it.
func moveProcesses(root string, write func(path, text string) error) error {
	if err := os.MkdirAll(filepath.Join(root, hostCgroup), 0o755); err != nil {
		return err
	}
	raw, err := os.ReadFile(filepath.Join(root, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, pid := range strings.Fields(string(raw)) {
		err := write(filepath.Join(root, hostCgroup, "cgroup.procs"), pid)
		if err != nil && !errors.Is(err, syscall.ESRCH) { // it has ended
			return fmt.Errorf("moving process %s out of the way: %w", pid, err)
		}
	}
	return nil
}

// writeControl writes to a file of the kernel, which is there already.
func writeControl(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
