package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test binary a process to be found and stopped.
func TestMain(m *testing.M) {
	switch os.Getenv("PROCESS_TEST") {
	case "":
		os.Exit(m.Run())
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
	case "parent":
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "PROCESS_TEST=child")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			panic(err)
		}
	case "tied":
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "PROCESS_TEST=child", PartMark+"=child")
		child.Stdout = os.Stdout // says that it is ready
		panic(RunChild(child))
	}
	fmt.Println("ready")
	select {}
}

func start(t *testing.T, kind, mark, part string) *Started {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(log, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(log, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	s, err := Start(Command{Argv: []string{os.Args[0]}, Env: []string{"PROCESS_TEST=" + kind}, Dir: t.TempDir(), Log: log, Mark: mark, Part: part})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, err := Members(mark, "")
		if err := errors.Join(err, Stop(context.Background(), left, 0)); err != nil {
			t.Error(err)
		}
	})
	if line, err := bufio.NewReader(f).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the process says %q, %v", line, err)
	}
	return s
}

func TestStop(t *testing.T) {
	for _, kind := range []string{"plain", "deaf"} {
		t.Run(kind, func(t *testing.T) {
			s := start(t, kind, t.TempDir(), "p")
			if !s.Alive() {
				t.Fatal("it does not run")
			}
			watch := Ended(t.Context(), s.ID)
			if err := Stop(t.Context(), []ID{s.ID}, 50*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if s.Alive() {
				t.Error("it still runs")
			}
			<-watch
			err := <-s.Ended
			if want := map[string]string{"plain": "signal: terminated", "deaf": "signal: killed"}[kind]; err.Error() != want {
				t.Errorf("it ended with %v, want %s", err, want)
			}
		})
	}
}

// A process that has got the id of one that ended is not stopped for it.
func TestStopOnlyTheOneThatWasMeant(t *testing.T) {
	s := start(t, "plain", t.TempDir(), "p")
	other := ID{PID: s.PID, Start: s.Start - 1}
	if other.Alive() {
		t.Error("another start time is taken for the same process")
	}
	if err := Stop(t.Context(), []ID{other}, time.Minute); err != nil {
		t.Fatal(err)
	}
	if !s.Alive() {
		t.Error("the wrong process was stopped")
	}
}

func TestMembers(t *testing.T) {
	mark := t.TempDir()
	parent := start(t, "parent", mark, "gitlab")
	single := start(t, "plain", mark, "moto")
	start(t, "plain", t.TempDir(), "gitlab") // another sandbox's
	all, err := Members(mark, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 3 || !slices.Contains(all, parent.ID) || !slices.Contains(all, single.ID) {
		t.Errorf("members = %v, want %v, its child and %v", all, parent.ID, single.ID)
	}
	// The child is found when its parent is gone, too.
	if err := Stop(t.Context(), []ID{parent.ID}, time.Minute); err != nil {
		t.Fatal(err)
	}
	left, err := Members(mark, "gitlab")
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 || left[0] == parent.ID || left[0] == single.ID {
		t.Errorf("members of gitlab = %v, want the child alone", left)
	}
}

func TestPorts(t *testing.T) {
	names := []string{"etcd", "etcd-peer", "kwok", "s3"}
	first, err := Ports(t.Context(), names, nil, func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, n := range names {
		if first[n] == 0 || seen[first[n]] {
			t.Errorf("ports = %v: each name needs one of its own", first)
		}
		seen[first[n]] = true
	}
	hold := func(name string) {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first[name]))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	hold("etcd") // by the part itself
	hold("kwok") // by a stranger
	second, err := Ports(t.Context(), names, first, func(n string) bool { return n == "etcd" })
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if same := second[n] == first[n]; same == (n == "kwok") {
			t.Errorf("port of %s: %d, was %d", n, second[n], first[n])
		}
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := TryLock(path)
	if err != nil || first == nil {
		t.Fatalf("the first lock: %v, %v", first, err)
	}
	if second, err := TryLock(path); err != nil || second != nil {
		t.Fatalf("a second lock beside the first: %v, %v", second, err)
	}
	got := make(chan error, 1)
	go func() {
		l, err := WaitLock(t.Context(), path)
		if err == nil { // it must be a lock on the file that is there now
			other, terr := TryLock(path)
			if err = terr; other != nil {
				err = errors.New("the lock that was waited for locks nothing")
			}
			l.Unlock()
		}
		got <- err
	}()
	if err := first.Remove(); err != nil { // as `down` does
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	held, err := TryLock(path)
	if err != nil || held == nil {
		t.Fatalf("the lock after it was given back: %v, %v", held, err)
	}
	defer held.Unlock()
	cancel()
	if _, err := WaitLock(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting after cancel: %v", err)
	}
}

func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.json")
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	entry := Entry{ID: ID{PID: 7, Start: 9}, Digest: "d"}
	if err := errors.Join(j.SetPorts(map[string]int{"s3": 1234}), j.Starting("s3"), j.Starting("moto"), j.Started("s3", entry)); err != nil {
		t.Fatal(err)
	}
	again, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := again.Entry("s3"); !ok || got != entry {
		t.Errorf("the entry is %v, %t", got, ok)
	}
	if again.Ports()["s3"] != 1234 {
		t.Errorf("ports = %v", again.Ports())
	}
	if parts := again.Parts(); len(parts) != 2 || parts["moto"] != (Entry{}) {
		t.Errorf("parts = %v; one that was about to be started is one of them", parts)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a torn journal: %v", err)
	}
}
