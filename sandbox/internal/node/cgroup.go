package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

const cgroupRoot = "/sys/fs/cgroup"

// hierarchies are the folders of the host's cgroup trees: one where the host
// has version 2 alone, else one for each controller.
func hierarchies() ([]string, error) {
	if unified() {
		return []string{cgroupRoot}, nil
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, fmt.Errorf("listing the host's cgroups: %w", err)
	}
	var out []string
	for _, e := range entries {
		path := filepath.Join(cgroupRoot, e.Name())
		if _, err := os.Stat(filepath.Join(path, "cgroup.procs")); e.IsDir() && err == nil {
			out = append(out, path)
		}
	}
	return out, nil
}

// unified tells whether the host has cgroups of version 2 alone.
func unified() bool {
	_, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers"))
	return err == nil
}

func makeCgroup(name string) error {
	if unified() {
		if err := enableControllers(cgroupRoot, writeControl); err != nil {
			return err
		}
	}
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		path := filepath.Join(h, name)
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making the node's cgroup: %w", err)
		}
		// A new cpuset has no processors, and no process can enter it.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			raw, err := os.ReadFile(filepath.Join(h, file))
			if errors.Is(err, fs.ErrNotExist) || unified() {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(path, file), raw, 0o644)
			}
			if err != nil {
				return fmt.Errorf("making the node's cgroup: %w", err)
			}
		}
	}
	return nil
}

// RemoveCgroup removes a node's cgroups in every hierarchy, those within first.
// Its processes are ending or have ended.
func RemoveCgroup(ctx context.Context, name string) error {
	if name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("removing the cgroup %q: that is no node's", name)
	}
	all, err := hierarchies()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, h := range all {
		for {
			err := removeTree(filepath.Join(h, name))
			if err == nil {
				break
			}
			// The kernel offers nothing to wait for the end of the last
			// process of a version 1 cgroup.
			if !errors.Is(err, syscall.EBUSY) || pause(ctx) != nil {
				return fmt.Errorf("removing the node's cgroup: %w", err)
			}
		}
	}
	return nil
}

// LeftBehind tells whether a node's link or its cgroup is there.
func LeftBehind(link, cgroup string) bool {
	if _, err := netlink.LinkByName(link); err == nil {
		return true
	}
	all, err := hierarchies()
	return err == nil && slices.ContainsFunc(all, func(h string) bool {
		_, err := os.Stat(filepath.Join(h, cgroup))
		return err == nil
	})
}

func pause(ctx context.Context) error {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func removeTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}
