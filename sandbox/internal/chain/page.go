package chain

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"time"
)

//go:embed page.html
var page string

// Shown is a step that was run, for the page of the demo.
type Shown struct {
	Step
	Jobs    []Job
	Err     string
	Seconds float64
}

// WritePage leaves the report of the demo as index.html in dir, which also
// holds the collected reports of the jobs.
func WritePage(dir string, shown []Shown, start time.Time) (string, error) {
	t, err := template.New("demo").Funcs(template.FuncMap{
		"mark":  Job.word,
		"pages": func(j Job) []link { return pagesOf(dir, j) },
	}).Parse(page)
	if err != nil {
		return "", fmt.Errorf("parsing the page of the demo: %w", err)
	}
	var b bytes.Buffer
	data := struct {
		Shown []Shown
		Start time.Time
		Total float64
	}{shown, start.UTC(), time.Since(start).Seconds()}
	if err := t.Execute(&b, data); err != nil {
		return "", fmt.Errorf("making the page of the demo: %w", err)
	}
	path := filepath.Join(dir, "index.html")
	return path, os.WriteFile(path, b.Bytes(), 0o644)
}

type link struct{ Label, Path string }

func pagesOf(dir string, j Job) []link {
	var out []link
	found, err := filepath.Glob(filepath.Join(j.Report, "slipway-*.html"))
	if err != nil || j.Report == "" {
		return nil
	}
	for _, f := range found {
		if rel, err := filepath.Rel(dir, f); err == nil {
			base := filepath.Base(f)
			out = append(out, link{base[:len(base)-len(".html")], rel})
		}
	}
	return out
}

// word is the state of a job as the page shows it, and its colour's class.
func (j Job) word() struct{ Text, Class string } {
	type w = struct{ Text, Class string }
	switch {
	case j.Status == "success":
		return w{"done", "good"}
	case j.Status == "failed" && j.AllowFailure:
		return w{fmt.Sprintf("exit %d, allowed", j.ExitCode), "warn"}
	case j.Status == "failed":
		return w{fmt.Sprintf("FAIL %d", j.ExitCode), "bad"}
	case j.Status == "manual":
		return w{"waits for a person", "dim"}
	default:
		return w{j.Status, "dim"}
	}
}
