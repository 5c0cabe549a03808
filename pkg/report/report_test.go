package report_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/pkg/report"
)

func sample() *report.Run {
	r := report.New("slipway-sample", "run", "1.2.3")
	r.Step("first")(nil)
	r.Step("second")(errors.New(`pod said <script>alert("x")</script> | @everybody`))
	r.Skip("third", "nothing to do")
	r.Find(report.Finding{Level: "error", Class: "ImagePullBackOff", Object: "deployment/orders", Message: "no such image", Evidence: "</pre><script>", Next: "push it"})
	r.Finish(6, "broken", "second: token tok-123456", []string{"log in with tok-123456 <script>"})
	return r
}

func TestWriteMasksEveryFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "report")
	if err := report.Prepare(dir); err != nil {
		t.Fatal(err)
	}
	mask := func(s string) string { return strings.ReplaceAll(s, "tok-123456", "[MASKED]") }
	if err := sample().Write(dir, mask); err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{"json", "xml", "md", "html"} {
		raw, err := os.ReadFile(filepath.Join(dir, "slipway-sample."+ext))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), "tok-123456") {
			t.Errorf("the secret stands in the %s file", ext)
		}
	}
	raw, _ := os.ReadFile(filepath.Join(dir, "slipway-sample.json"))
	var back map[string]any
	if err := json.Unmarshal(raw, &back); err != nil || back["schema"] != report.Schema || back["exitCode"] != 6.0 {
		t.Errorf("read back %v, %v", back, err)
	}
}

// TestStrangersTextStaysText: what a pod or a person wrote becomes markup nowhere.
func TestStrangersTextStaysText(t *testing.T) {
	r := sample()
	html, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(html), "<script>") {
		t.Error("a script tag got into the page")
	}
	if !strings.Contains(string(html), `content="default-src 'none'`) {
		t.Error("the page has no content security policy")
	}
	md := r.Markdown()
	if hint := "<li>log in with tok-123456 &lt;script&gt;</li>"; !strings.Contains(string(html), hint) || !strings.Contains(md, "- log in with tok-123456 &lt;script&gt;\n") {
		t.Errorf("the hint is not shown:\n%s\n%s", html, md)
	}
	if strings.Contains(md, "<script>") || strings.Contains(md, "@everybody") {
		t.Errorf("markup or a mention got into the note:\n%s", md)
	}
}

func TestJUnit(t *testing.T) {
	raw, err := sample().JUnit()
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Skipped  int `xml:"skipped,attr"`
		Cases    []struct {
			Name    string `xml:"name,attr"`
			Failure string `xml:"failure"`
			Skipped string `xml:"skipped"`
		} `xml:"testcase"`
	}
	if err := xml.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	if s.Tests != 4 || s.Failures != 2 || s.Skipped != 1 || len(s.Cases) != 4 {
		t.Fatalf("suite is %+v", s)
	}
	// GitLab's Tests tab shows the elements' text.
	if s.Cases[1].Failure != `pod said <script>alert("x")</script> | @everybody` || s.Cases[2].Skipped != "nothing to do" ||
		s.Cases[3].Failure != "no such image\n\n</pre><script>\n\nnext: push it" {
		t.Errorf("the texts are %+v", s.Cases)
	}
}
