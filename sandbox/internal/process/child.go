package process

import (
	"os/exec"
	"runtime"
	"syscall"
)

// RunChild runs a command that does not outlive this process, however that
// ends: what goes on writing after its starter was killed is in the way of
// whoever cleans up.
func RunChild(cmd *exec.Cmd) error {
	// The kernel takes the end of the thread that has started it for the end
	// of the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.Run()
}
