// Package killed kills `sandbox up` and looks what is left.
//
// As root its tests run in a den: namespaces of processes, mounts and links of
// their own, in which there is nothing else. What is there after `sandbox
// down` and was not before has been left, whatever name it has, and however
// many other sandboxes the machine runs.
package killed

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// role of this process in a den: none yet, its first process, or the one that
// runs the tests.
const role = "KILLED_TEST_DEN"

func TestMain(m *testing.M) {
	switch {
	case os.Geteuid() != 0 || os.Getenv(role) == "tests":
		os.Exit(m.Run())
	case os.Getenv(role) == "":
		os.Exit(outside())
	default:
		os.Exit(first())
	}
}

func self(next string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), role+"="+next)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// outside makes a den and waits for its end. The den ends with this process,
// however that ends.
func outside() int {
	runtime.LockOSThread() // the den dies with the thread that has made it
	cmd := self("first")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "making namespaces for the tests:", err)
		return 1
	}
	return 0
}

// first is the first process of the den, which collects those whose parents
// are gone, and returns the exit code of the tests.
func first() int {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	err = errors.Join(err,
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("proc", "/proc", "proc", 0, ""))
	tests := self("tests")
	if err = errors.Join(err, tests.Start()); err != nil {
		fmt.Fprintln(os.Stderr, "making namespaces for the tests:", err)
		return 1
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			fmt.Fprintln(os.Stderr, "waiting for the tests:", err)
			return 1
		case pid == tests.Process.Pid && status.Exited():
			return status.ExitStatus()
		case pid == tests.Process.Pid:
			return 1
		}
	}
}
