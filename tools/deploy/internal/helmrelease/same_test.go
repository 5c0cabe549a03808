package helmrelease

import (
	"maps"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
)

// TestWhatWasDoneToTheDataStaysNoted, whatever the next commit says of it.
func TestWhatWasDoneToTheDataStaysNoted(t *testing.T) {
	noting := func(pairs ...string) map[string]string {
		out := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			out[pairs[i]] = pairs[i+1]
		}
		return out
	}
	const commit = noted + "commit"
	for name, c := range map[string]struct{ was, now, want map[string]string }{
		"nothing":             {nil, nil, noting()},
		"another commit":      {noting(commit, "one", "team", "a"), noting(commit, "two", "team", "a"), noting(commit, "two", "team", "a")},
		"a note that ends":    {noting(commit, "one"), nil, noting()},
		"contract, then none": {noting(MigrationsAnnotation, "contract", BackupAnnotation, "b1"), noting(commit, "two"), noting(commit, "two", MigrationsAnnotation, "contract", BackupAnnotation, "b1")},
		"contract to expand":  {noting(MigrationsAnnotation, "contract"), noting(MigrationsAnnotation, "expand"), noting(MigrationsAnnotation, "contract")},
		"expand to contract":  {noting(MigrationsAnnotation, "expand"), noting(MigrationsAnnotation, "contract"), noting(MigrationsAnnotation, "contract")},
		"expand, then none":   {noting(MigrationsAnnotation, "expand"), nil, noting()},
		"a later backup":      {noting(BackupAnnotation, "before"), noting(BackupAnnotation, "since"), noting(BackupAnnotation, "before")},
	} {
		meta := func(a map[string]string) *chart.Chart { return &chart.Chart{Metadata: &chart.Metadata{Annotations: a}} }
		if got := renewed(meta(c.was), meta(c.now)); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestOriginOfAContract: the mark and its backup outlive a release of the same
// objects, which is then not taken for something new again and again.
func TestOriginOfAContract(t *testing.T) {
	w := newWorld(t)
	made := func(readme string, notes ...string) Spec {
		s := w.spec("orders", "templates/b.yaml", config("settings", "a: one"), "README.md", readme)
		w.must(s.Chart.From("a folder"))
		for i := 0; i < len(notes); i += 2 {
			s.Chart.Annotate(notes[i], notes[i+1])
		}
		return s
	}
	w.apply(made("one", MigrationsAnnotation, "contract", BackupAnnotation, "b1", noted+"commit", "one"))
	s := made("two", noted+"commit", "two")
	p := w.plan(s)
	if !p.Unchanged() || !p.NewOrigin() {
		t.Fatalf("unchanged %v, new origin %v", p.Unchanged(), p.NewOrigin())
	}
	_, err := w.client.NoteOrigin(t.Context(), p)
	w.must(err)
	state, err := w.client.Read(t.Context(), w.namespace, "orders")
	w.must(err)
	a := state.Last.Annotations
	if a[MigrationsAnnotation] != "contract" || a[BackupAnnotation] != "b1" || a[noted+"commit"] != "two" || a[digestAnnotation] != s.Chart.Digest() {
		t.Errorf("annotations %v", a)
	}
	if got, want := state.Last.record.secret.Labels[digestAnnotation], s.Chart.Labels()[digestAnnotation]; got != want {
		t.Errorf("the label of the chart is %q, want %q", got, want)
	}
	if p := w.plan(s); !p.Unchanged() || p.NewOrigin() {
		t.Errorf("unchanged %v, new origin %v", p.Unchanged(), p.NewOrigin())
	}
}
