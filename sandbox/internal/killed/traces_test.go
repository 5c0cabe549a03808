package killed

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

// traces is what can be left behind: a name for each thing, and what it is.
type traces map[string]string

// look takes down all that is there.
func (y *yard) look(t *testing.T) traces {
	t.Helper()
	all := traces{}
	for _, take := range []func(traces) error{y.processes, y.files, y.cgroupFolders, mounts, network, packetRules} {
		if err := take(all); err != nil {
			t.Fatalf("looking what is there: %v", err)
		}
	}
	return all
}

// left names what is in now and was not in before, or was another, and what
// is missing.
func left(before, now traces) []string {
	var out []string
	for name, what := range now {
		if was, ok := before[name]; !ok || was != what {
			out = append(out, strings.TrimSpace(name+" "+what))
		}
	}
	for name := range before {
		if _, ok := now[name]; !ok {
			out = append(out, "gone: "+name)
		}
	}
	slices.Sort(out)
	return out
}

// processes are all of the den. Elsewhere those that carry a sandbox's mark.
func (y *yard) processes(all traces) error {
	if !inDen() {
		ids, err := process.Members(y.dir, "")
		for _, id := range ids {
			all[fmt.Sprintf("process %d", id.PID)] = commandOf(id.PID)
		}
		return err
	}
	pids, err := pids()
	for _, pid := range pids {
		if _, err := process.Find(pid); err == nil { // it has not ended meanwhile
			all[fmt.Sprintf("process %d", pid)] = commandOf(pid)
		}
	}
	return err
}

func inDen() bool { return os.Getenv(role) != "" }

// pids are the processes of the den, its first and this one aside.
func pids() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != 1 && pid != os.Getpid() {
			out = append(out, pid)
		}
	}
	return out, err
}

func commandOf(pid int) string {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // it may have ended
	return strings.TrimSpace(strings.ReplaceAll(string(raw), "\x00", " "))
}

// files are those of the folders that the sandbox is given: that of its own,
// that for temporary files, and the cache of built programs.
func (y *yard) files(all traces) error {
	for _, dir := range []string{filepath.Dir(y.dir), y.tmp, y.cache} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil {
				all["file "+path] = d.Type().String()
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cgroupFolders are those of the machine that processes of the sandbox have
// been seen in.
func (y *yard) cgroupFolders(all traces) error {
	for dir := range y.cgroups {
		if _, err := os.Stat(dir); err == nil {
			all["cgroup "+dir] = ""
		}
	}
	return nil
}

// seeCgroups notes in which cgroups the processes of the den are that are not
// in the tests' own. The den has no cgroups of its own.
func (y *yard) seeCgroups(t *testing.T) {
	t.Helper()
	own, err := cgroupsOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	all, err := pids()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range all {
		theirs, err := cgroupsOf(pid)
		if err != nil {
			continue // it has ended
		}
		for dir := range theirs {
			if !own[dir] {
				y.cgroups[dir] = true
			}
		}
	}
}

// cgroupsOf returns the folders of a process's cgroups, with those above them.
func cgroupsOf(pid int) (map[string]bool, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for line := range strings.Lines(string(raw)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		tree := strings.TrimPrefix(controllers, "name=")
		if controllers == "" {
			tree = "unified"
		}
		root := filepath.Join("/sys/fs/cgroup", tree)
		if _, err := os.Stat(root); err != nil { // version 2 alone
			root = "/sys/fs/cgroup"
		}
		for ; path != "/" && path != "."; path = filepath.Dir(path) {
			out[filepath.Join(root, path)] = true
		}
	}
	return out, nil
}

// mounts are the den's. Without root a sandbox can make none.
func mounts(all traces) error {
	if !inDen() {
		return nil
	}
	raw, err := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(raw)) {
		id, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		all["mount "+id] = rest
	}
	return err
}

// network is the links, addresses, routes and routing rules of the den.
// Without root a sandbox can make none of them.
func network(all traces) error {
	if !inDen() {
		return nil
	}
	links, err1 := netlink.LinkList()
	addrs, err2 := netlink.AddrList(nil, netlink.FAMILY_ALL)
	routes, err3 := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	rules, err4 := netlink.RuleList(netlink.FAMILY_ALL)
	for _, l := range links {
		all["link "+l.Attrs().Name] = fmt.Sprintf("%s %s", l.Type(), l.Attrs().Flags&net.FlagUp)
	}
	for _, a := range addrs {
		all["address "+a.String()] = ""
	}
	for _, r := range routes {
		all["route "+r.String()] = ""
	}
	for _, r := range rules {
		all["routing rule "+r.String()] = ""
	}
	return errors.Join(err1, err2, err3, err4)
}

func packetRules(all traces) error {
	// Without nft there is nothing here that could have made any.
	if path, _ := exec.LookPath("nft"); path == "" || !inDen() {
		return nil
	}
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if text := strings.TrimSpace(string(out)); text != "" {
		all["packet rules"] = text
	}
	return err
}

// TestTracesAreSeen: whatever is left is found, or the tests of this package
// would prove nothing.
func TestTracesAreSeen(t *testing.T) {
	y := newYard(t)
	before := y.look(t)
	if got := left(before, y.look(t)); len(got) > 0 {
		t.Fatalf("nothing was made, and there is %q", got)
	}
	seen := func(what string) {
		t.Helper()
		if got := left(before, y.look(t)); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, what) }) {
			t.Errorf("%s is not seen in %q", what, got)
		}
	}
	if err := os.WriteFile(filepath.Join(y.tmp, "left"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	seen("file " + y.tmp + "/left")
	sleeper := exec.CommandContext(t.Context(), "sleep", "1000")
	sleeper.Env = append(os.Environ(), process.Mark+"="+y.dir)
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	seen(fmt.Sprintf("process %d", sleeper.Process.Pid))
	if !inDen() {
		return
	}
	link := addLink(t)
	for _, what := range []string{"link left", "address 10.99.0.1/24", "route "} {
		seen(what)
	}
	command(t, "nft", "add", "table", "ip", "left")
	seen("packet rules")
	mounted := filepath.Join(y.tmp, "mounted")
	if err := errors.Join(os.Mkdir(mounted, 0o700), unix.Mount("tmpfs", mounted, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	seen("mount ")
	cgroup := filepath.Join(anyHierarchy(t), "killed-test-"+rand.Text())
	if err := os.Mkdir(cgroup, 0o700); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(cgroup)
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(sleeper.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	y.seeCgroups(t)
	seen("cgroup " + cgroup)

	_ = sleeper.Process.Kill()
	_ = sleeper.Wait()
	command(t, "nft", "delete", "table", "ip", "left")
	if err := errors.Join(netlink.LinkDel(link), unix.Unmount(mounted, 0), os.Remove(mounted), os.Remove(filepath.Join(y.tmp, "left")), os.Remove(cgroup)); err != nil {
		t.Fatal(err)
	}
	if got := left(before, y.look(t)); len(got) > 0 {
		t.Errorf("all was removed, and there is %q", got)
	}
}

// addLink makes a link with an address.
func addLink(t *testing.T) netlink.Link {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "left"
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "right"})
	if err != nil {
		t.Fatal(err)
	}
	link, err1 := netlink.LinkByName("left")
	addr, err2 := netlink.ParseAddr("10.99.0.1/24")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(netlink.AddrAdd(link, addr), netlink.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
	return link
}

func command(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("running %q: %v: %s", argv, err, out)
	}
}

// anyHierarchy is a tree of cgroups that processes can be put into.
func anyHierarchy(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/freezer"} {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			return dir
		}
	}
	t.Fatal("no tree of cgroups is mounted below /sys/fs/cgroup")
	return ""
}
