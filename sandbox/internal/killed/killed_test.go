package killed

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"gitlab.com/slipway/slipway/internal/sandboxtest"

	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

// points is how many moments `make chaos` kills `up` at, and fewest how many
// have to have been reached for a figure.
const points, fewest = 36, 30

// Wherever the real `up` is killed, the next `up` makes the sandbox whole, or
// `down` takes it away, and after `down` there is nothing that was not there
// before. Three moments are tried, or with SLIPWAY_CHAOS as many as there are
// points, whose figures are written to the file that it names.
func TestKillSchedule(t *testing.T) {
	y := newYard(t)
	before := y.look(t)
	t.Cleanup(func() { _, _ = y.run("down") }) // of what a failed test has left
	figures := os.Getenv("SLIPWAY_CHAOS")
	// The first brings it up again, so that its cgroups are seen.
	schedule := []string{"journal 24", "log 4", "line 12"}
	if figures != "" {
		schedule = y.schedule(t)
	}
	whole, clean, tried := 0, 0, 0
	for i, point := range schedule {
		verb := "down"
		if i%2 == 0 {
			verb = "up"
		}
		now, killed, err := y.killAt(t, point, verb)
		leftovers := left(before, now)
		before = now // what is left is told once
		what := fmt.Sprintf("%d of %d: killed at %q, then %s", i+1, len(schedule), point, verb)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if len(leftovers) > 0 {
			t.Errorf("%s: left is\n%s", what, indent(strings.Join(leftovers, "\n")))
		}
		if !killed && err == nil && len(leftovers) == 0 {
			t.Logf("%s: was not reached", what)
			continue
		}
		// An `up` that ended with an error before it was killed counts too.
		t.Log(what)
		tried++
		if err == nil {
			whole++
		}
		if len(leftovers) == 0 {
			clean++
		}
	}
	least := len(schedule)
	if figures != "" {
		least = fewest
	}
	if tried < least {
		t.Fatalf("only %d of %d points were reached, and at least %d have to be", tried, len(schedule), least)
	}
	if !y.sawAll() {
		t.Log("without nodes: mounts, links and rules are not measured")
	}
	if figures != "" {
		if err := os.WriteFile(figures, []byte(rows(whole, clean, tried, y.sawAll())), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// rows are the figures for `make chaos`. What is left is one only where all
// that could be left was looked at.
func rows(whole, clean, tried int, sawAll bool) string {
	text := fmt.Sprintf("up-killed %d/%d\n", whole, tried)
	if sawAll {
		text += fmt.Sprintf("no-leftovers %d/%d\n", clean, tried)
	}
	return text
}

func TestRowsWithoutNodes(t *testing.T) {
	if got := rows(3, 2, 3, true); got != "up-killed 3/3\nno-leftovers 2/3\n" {
		t.Errorf("with nodes: %q", got)
	}
	if got := rows(3, 3, 3, false); got != "up-killed 3/3\n" {
		t.Errorf("without: %q", got)
	}
}

// killAt kills `up` at a point, makes the sandbox whole if verb is `up`, and
// takes it down. It returns what is there then, whether the point was reached,
// and the first thing that went wrong.
func (y *yard) killAt(t *testing.T, point, verb string) (now traces, killed bool, err error) {
	t.Helper()
	_, killed, err = y.watchedUp(point)
	if err == nil && verb == "up" {
		err = y.whole(t)
	}
	if _, downErr := y.run("down"); err == nil {
		err = downErr
	}
	return y.look(t), killed, err
}

// An `up` that is killed while it builds: the next one builds anew, and leaves
// nothing but what it has built.
func TestKilledWhileItBuilds(t *testing.T) {
	y := newYard(t)
	const program = "crane" // the quickest to build
	links, err := filepath.Glob(filepath.Join(y.cache, program+"-*"))
	if err != nil || len(links) == 0 {
		t.Fatalf("the cache has %v of %s, %v", links, program, err)
	}
	for _, link := range links {
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	before := y.look(t)
	t.Cleanup(func() { _, _ = y.run("down") }) // of what a failed test has left
	now, killed, err := y.killAt(t, "build 1", "up")
	if err != nil || !killed {
		t.Errorf("killed %t, then up: %v", killed, err)
	}
	got := slices.DeleteFunc(left(before, now), func(what string) bool {
		name := strings.TrimPrefix(what, "file "+y.cache+"/")
		return strings.HasPrefix(name, program) || strings.HasPrefix(name, "."+program+".lock")
	})
	if len(got) > 0 {
		t.Errorf("left is\n%s", indent(strings.Join(got, "\n")))
	}
}

// schedule brings the sandbox up once, undisturbed, and chooses moments of all
// that happened, evenly.
func (y *yard) schedule(t *testing.T) []string {
	t.Helper()
	seen, _, err := y.watchedUp("")
	if err == nil {
		err = y.whole(t)
	}
	if err != nil {
		t.Fatalf("up, undisturbed: %v", err)
	}
	if _, err := y.run("down"); err != nil {
		t.Fatal(err)
	}
	var out []string
	for i := range min(points, len(seen)) {
		out = append(out, seen[i*len(seen)/min(points, len(seen))])
	}
	return out
}

// whole makes the sandbox complete with `up` and tells what does not work.
func (y *yard) whole(t *testing.T) error {
	t.Helper()
	if _, err := y.up(); err != nil {
		return err
	}
	y.seeCgroups(t)
	if err := y.healthy(t.Context()); err != nil {
		return err
	}
	out, err := y.up()
	// Only the repository's own files may have been changed meanwhile.
	if err == nil && strings.Contains(out, " ready after ") {
		err = fmt.Errorf("another up starts something:\n%s", indent(out))
	}
	return err
}

// healthy tells what of the sandbox does not work.
func (y *yard) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := y.run("status"); err != nil {
		return err
	}
	if err := y.once(); err != nil {
		return err
	}
	s, err := sandboxtest.Read(y.dir)
	if err != nil {
		return err
	}
	for name, c := range s.Clusters {
		if c.Node == nil {
			y.nodeless = true
			if y.needsNodes() {
				return fmt.Errorf("the cluster %q has no real node: there would be no mounts, links and rules to be left", name)
			}
		}
		cfg, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
		if err != nil {
			return err
		}
		client, err := kubernetes.NewForConfig(cfg)
		if err != nil {
			return err
		}
		if err := ready(ctx, client, c.Node != nil); err != nil {
			return fmt.Errorf("the cluster %q: %w", name, err)
		}
	}
	for _, url := range []string{"http://" + s.Registry.Address + "/v2/", s.GitLab.Endpoint + "/api/v4/version", s.AWS.Endpoint, s.S3.Endpoint} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode >= 500 {
			return fmt.Errorf("%s answers %s", url, resp.Status)
		}
	}
	return nil
}

// ready tells whether the API server and every node are.
func ready(ctx context.Context, client *kubernetes.Clientset, real bool) error {
	if err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return err
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	want := map[string]bool{"fake-0": true, "fake-1": true}
	if real {
		want["real-0"] = true
	}
	for _, n := range nodes.Items {
		if slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		}) {
			delete(want, n.Name)
		}
	}
	if len(want) > 0 {
		return fmt.Errorf("its nodes %v are not ready", want)
	}
	return nil
}

// once tells of parts that run twice: each has one process that leads a
// session, which is the one in the journal.
func (y *yard) once() error {
	raw, err := os.ReadFile(filepath.Join(y.dir, "journal.json"))
	if err != nil {
		return err
	}
	var journal struct{ Parts map[string]process.ID }
	if err := json.Unmarshal(raw, &journal); err != nil {
		return err
	}
	for part, id := range journal.Parts {
		all, err := process.Members(y.dir, part)
		if err != nil {
			return err
		}
		for _, other := range all {
			stat, err := os.ReadFile("/proc/" + strconv.Itoa(other.PID) + "/stat")
			fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
			if err == nil && len(fields) > 3 && fields[3] == strconv.Itoa(other.PID) && other != id {
				return fmt.Errorf("%q is process %d, and process %d as well: %s", part, id.PID, other.PID, commandOf(other.PID))
			}
		}
	}
	return nil
}

// Two sandboxes that come up at the same time do not meet: both are whole, and
// the second stays so when the first is taken down.
func TestTwoSandboxes(t *testing.T) {
	first := newYard(t)
	second := *first
	second.dir = filepath.Join(filepath.Dir(first.dir), "second")
	before := first.look(t)
	both := []*yard{first, &second}
	for _, y := range both {
		t.Cleanup(func() { _, _ = y.run("down") }) // of what a failed test has left
	}
	done := make(chan error, len(both))
	for _, y := range both {
		go func() {
			_, err := y.up()
			done <- err
		}()
	}
	for range both {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	first.seeCgroups(t)
	for _, y := range both {
		if err := y.healthy(t.Context()); err != nil {
			t.Errorf("%s: %v", y.dir, err)
		}
	}
	if _, err := first.run("down"); err != nil {
		t.Error(err)
	}
	if err := second.healthy(t.Context()); err != nil {
		t.Errorf("the second, after the first is down: %v", err)
	}
	if _, err := second.run("down"); err != nil {
		t.Error(err)
	}
	if got := left(before, first.look(t)); len(got) > 0 {
		t.Errorf("left is\n%s", indent(strings.Join(got, "\n")))
	}
}
