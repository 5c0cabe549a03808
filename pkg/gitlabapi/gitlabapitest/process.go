package gitlabapitest

import (
	"os"
	"strconv"
	"strings"
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
