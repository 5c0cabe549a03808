package gitlabapitest

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stat reads the fields of /proc/PID/stat after the command name: state first, then the parent and the group.
func stat(pid string) []string {
	data, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return nil
	}
	s := string(data)
	return strings.Fields(s[strings.LastIndex(s, ")")+1:])
}

// startTime tells a process from a later one with the same number; it is empty when there is none, or when only a
// zombie is left of it.
func startTime(pid int) string {
	f := stat(strconv.Itoa(pid))
	if len(f) < 20 || f[0] == "Z" {
		return ""
	}
	return f[19]
}

// age is how long ago a process with that start time began. The instance's clock does not count here: it can be moved.
func age(start string) time.Duration {
	var sinceBoot unix.Timespec
	ticks, err := strconv.ParseInt(start, 10, 64)
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &sinceBoot) != nil {
		return 0
	}
	const tick = time.Second / 100 // USER_HZ, in which the kernel counts for all of /proc
	return time.Duration(sinceBoot.Nano()) - time.Duration(ticks)*tick
}

// groupLives says whether any process of a group is left that is more than a zombie: in a container nobody may reap
// orphans, and they must not keep a job alive.
func groupLives(group int) bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, e := range entries {
		if name := e.Name(); name[0] >= '0' && name[0] <= '9' {
			if f := stat(name); len(f) > 2 && f[0] != "Z" && f[2] == strconv.Itoa(group) {
				return true
			}
		}
	}
	return false
}

// jobMark is the variable by which a job's processes are known, also those that have left its process group.
const jobMark = "SLIPWAY_GITLAB_JOB"

// marked are the processes that have begun with an entry in their environment, but for zombies.
func marked(entry string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		environ, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && bytes.Contains(append([]byte{0}, environ...), []byte("\x00"+entry+"\x00")) && startTime(pid) != "" {
			out = append(out, pid)
		}
	}
	return out
}

// signal reaches a job's process group, and those of its processes that have left it.
func (r *run) signal(sig syscall.Signal) {
	_ = syscall.Kill(-r.pid, sig)
	for _, pid := range marked(r.mark) {
		if f := stat(strconv.Itoa(pid)); len(f) > 2 && f[2] != strconv.Itoa(r.pid) {
			_ = syscall.Kill(pid, sig)
		}
	}
}

// killMarked ends what is left of a job whose process group may be another's by now.
func (r *run) killMarked() {
	for _, pid := range marked(r.mark) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// lives says whether any process of a job is left.
func (r *run) lives() bool { return groupLives(r.pid) || len(marked(r.mark)) > 0 }
