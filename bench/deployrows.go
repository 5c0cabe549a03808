package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// peersGoOn has no row: it fails where a helm of version 3 or 4 cannot go on
// with a release of ours, or we with what it has done.
func (b *deployBench) peersGoOn(ctx context.Context) ([]row, error) {
	s, err := b.set(1)
	if err != nil {
		return nil, err
	}
	revision := 0
	for _, note := range []string{"one", "two"} {
		if err := s.write("values.yaml", "note: "+note+"\n"); err != nil {
			return nil, err
		}
		if _, err := b.ours(ctx, s, 0); err != nil {
			return nil, err
		}
		revision++
	}
	for _, helm := range []string{"helm3", "helm4"} {
		history, err := b.run(ctx, s, 0, b.bin(helm), "history", s.release(0), "--namespace", s.namespace)
		if err != nil {
			return nil, err
		}
		if n := strings.Count(history.output, "\n") - 1; n != revision {
			return nil, fmt.Errorf("listing the history with %s: it has %d revisions, not %d:\n%s", helm, n, revision, history.output)
		}
		if _, err := b.run(ctx, s, 0, b.bin(helm), "rollback", s.release(0), "1", "--namespace", s.namespace, "--wait"); err != nil {
			return nil, err
		}
		again, err := b.ours(ctx, s, 0) // to the second state again
		if err != nil {
			return nil, err
		}
		if revision += 2; !strings.Contains(again.output, fmt.Sprintf("revision %d", revision)) {
			return nil, fmt.Errorf("going on after a rollback with %s: it is not at revision %d:\n%s", helm, revision, again.output)
		}
	}
	return nil, nil
}

// one measures one release, installed and upgraded ten times; the programs
// take turns, so that a busy moment hits all.
func (b *deployBench) one(ctx context.Context) ([]row, error) {
	installs, upgrades := map[string][]float64{}, map[string][]float64{}
	for i := range 11 {
		for _, program := range []string{"ours", "helm3", "helm4"} {
			s, err := b.set(1)
			if err != nil {
				return nil, err
			}
			for _, into := range []map[string][]float64{installs, upgrades} {
				var took spent
				if program == "ours" {
					took, err = b.ours(ctx, s, 0)
				} else {
					took, err = b.helm(ctx, program, s, s.release(0))
				}
				if err != nil {
					return nil, err
				}
				if i > 0 { // the first warms the page cache
					into[program] = append(into[program], took.seconds)
				}
				if err := s.write("values.yaml", "note: two\n"); err != nil {
					return nil, err
				}
			}
		}
	}
	var rows []row
	for _, m := range []struct {
		name  string
		times map[string][]float64
	}{{"install", installs}, {"upgrade", upgrades}} {
		ours := median(m.times["ours"])
		rows = append(rows, row{name: m.name + "-helm3", ours: ours, peer: median(m.times["helm3"]), limit: 0.12},
			row{name: m.name + "-helm4", ours: ours, peer: median(m.times["helm4"]), limit: 0.5})
	}
	return rows, nil
}

// fifty measures fifty releases: beside helmfile and helm 4, and once more with
// nothing changed, where the server's audit log must have no change of ours.
func (b *deployBench) fifty(ctx context.Context) ([]row, error) {
	mine, err := b.set(50)
	if err != nil {
		return nil, err
	}
	ours, err := b.ours(ctx, mine, 0)
	if err != nil {
		return nil, err
	}
	before, err := b.changes()
	if err != nil {
		return nil, err
	}
	again, err := b.ours(ctx, mine, 0)
	if err != nil {
		return nil, err
	}
	after, err := b.changes()
	if err != nil {
		return nil, err
	}
	if before == 0 {
		return nil, fmt.Errorf("reading the audit log: it has no change of the first run")
	}
	file, err := b.set(50)
	if err != nil {
		return nil, err
	}
	helmfile, err := b.run(ctx, file, 0, b.bin("helmfile"), "--helm-binary", b.bin("helm4"), "sync", "--concurrency", "8")
	if err != nil {
		return nil, err
	}
	helms, err := b.set(50)
	if err != nil {
		return nil, err
	}
	helm4, err := eight(50, func(i int) error {
		_, err := b.helm(ctx, "helm4", helms, helms.release(i))
		return err
	})
	return []row{{name: "fifty-helmfile", ours: ours.seconds, peer: helmfile.seconds, limit: 0.14}, {name: "fifty-helm4", ours: ours.seconds, peer: helm4, limit: 0.25},
		{name: "unchanged-fifty", ours: again.seconds, limit: 2}, {name: "unchanged-changes", ours: float64(after - before), limit: 0}}, err
}

// changes counts what slipway-deploy has changed in the whole cluster, by the
// server's audit log. A call with dryRun changes nothing, and a review is a question.
func (b *deployBench) changes() (int, error) {
	f, err := os.Open(filepath.Join(b.sandbox(), "clusters", "nonprod", "audit.log"))
	if err != nil {
		return 0, fmt.Errorf("reading the audit log: %w", err)
	}
	defer f.Close()
	n := 0
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			UserAgent  string `json:"userAgent"`
			RequestURI string `json:"requestURI"`
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			continue // a line that is being written
		}
		if strings.HasPrefix(e.UserAgent, "slipway-deploy") &&
			!strings.Contains(e.RequestURI, "dryRun=All") && !strings.Contains(e.RequestURI, "reviews") {
			n++
		}
	}
	return n, lines.Err()
}

// growth measures how the time grows with the number of releases.
func (b *deployBench) growth(ctx context.Context) ([]row, error) {
	var times []float64
	for _, n := range []int{100, 200} {
		s, err := b.set(n)
		if err != nil {
			return nil, err
		}
		took, err := b.ours(ctx, s, 0)
		if err != nil {
			return nil, err
		}
		times = append(times, took.seconds)
	}
	return []row{{name: "growth-200-100", ours: times[1], peer: times[0], limit: 2.3}}, nil
}

// memory measures the peak memory of 60 and of 120 releases of five pods, in MB.
func (b *deployBench) memory(ctx context.Context) ([]row, error) {
	var peaks []float64
	for _, n := range []int{60, 120} {
		s, err := b.set(n)
		if err != nil {
			return nil, err
		}
		if err := s.write("values.yaml", "replicas: 5\n"); err != nil {
			return nil, err
		}
		took, err := b.ours(ctx, s, 0)
		if err != nil {
			return nil, err
		}
		if strings.Contains(took.output, "client-side throttling") {
			return nil, fmt.Errorf("measuring memory: the client waited for a rate limiter of its own:\n%s", took.output)
		}
		peaks = append(peaks, took.peak)
	}
	return []row{{name: "memory-120-60", ours: peaks[1], peer: peaks[0], limit: 1.2}, {name: "memory-120-mb", ours: peaks[1], limit: 300}}, nil
}

// verdicts measures how long it takes to say why a release on the real node
// is not ready. Without a real node there are no such rows.
func (b *deployBench) verdicts(ctx context.Context) ([]row, error) {
	raw, err := os.ReadFile(filepath.Join(b.sandbox(), "sandbox.json"))
	if err != nil {
		return nil, fmt.Errorf("reading what the sandbox has: %w", err)
	}
	var has struct {
		Registry struct{ Address string } `json:"registry"`
		Images   map[string]string        `json:"images"`
		Clusters map[string]struct {
			Node *json.RawMessage `json:"node"`
		} `json:"clusters"`
	}
	if err := json.Unmarshal(raw, &has); err != nil {
		return nil, fmt.Errorf("reading what the sandbox has: %w", err)
	}
	if has.Clusters["nonprod"].Node == nil {
		fmt.Fprintln(os.Stderr, "bench: no real node here (it needs root): no verdict rows")
		return nil, nil
	}
	var rows []row
	for _, m := range []struct {
		name, values, says string
		limit              float64
	}{
		{"image-missing", "real: true\nimage: " + has.Registry.Address + "/bench/missing:1\n", "does not exist in the registry", 10},
		{"crash-loop", "real: true\nimage: " + has.Images["probe"] + "\nargs: [nonsense]\n", "it ended with exit code", 15},
	} {
		s, err := b.set(1)
		if err != nil {
			return nil, err
		}
		if err := s.write("values.yaml", m.values); err != nil {
			return nil, err
		}
		// Ready for a moment is not ready: without a window a crash may come too late.
		if err := s.write("releases.yaml", fmt.Sprintf("apiVersion: slipway/v1\nkind: ReleaseSet\nreleases:\n  - {name: %s, namespace: %s, createNamespace: true, chart: {path: chart}, values: [values.yaml]}\n",
			s.release(0), s.namespace)); err != nil {
			return nil, err
		}
		took, err := b.ours(ctx, s, 6) // a set keeps a failed first installation
		if err != nil {
			return nil, err
		}
		if !strings.Contains(took.output, m.says) {
			return nil, fmt.Errorf("measuring %s: the cause is not told:\n%s", m.name, took.output)
		}
		rows = append(rows, row{name: m.name, ours: took.seconds, limit: m.limit})
	}
	return rows, nil
}
