package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html/template"
	"strings"
)

//go:embed page.html
var page string

// HTML returns the report as one page. Everything in it is escaped, and its
// content security policy allows no script: pod logs are strangers' text.
func (r *Run) HTML() ([]byte, error) {
	t, err := template.New("report").Funcs(template.FuncMap{"json": indented}).Parse(page)
	if err != nil {
		return nil, fmt.Errorf("parsing the page of the report: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, r); err != nil {
		return nil, fmt.Errorf("making the page of the report: %w", err)
	}
	return b.Bytes(), nil
}

func indented(v any) (string, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return string(b), err
}

type suite struct {
	XMLName  xml.Name   `xml:"testsuite"`
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Skipped  int        `xml:"skipped,attr"`
	Time     string     `xml:"time,attr"`
	Cases    []testCase `xml:"testcase"`
}

type testCase struct {
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Time    string   `xml:"time,attr"`
	Failure *message `xml:"failure"`
	Skipped *message `xml:"skipped"`
}

// message is a failure's text. GitLab shows that of the element, others the
// attribute.
type message struct {
	Text string `xml:"message,attr"`
	Body string `xml:",chardata"`
}

func said(text string) *message { return &message{text, text} }

// whole is everything that a finding says.
func (f Finding) whole() string {
	text := f.Message
	if f.Evidence != "" {
		text += "\n\n" + f.Evidence
	}
	if f.Next != "" {
		text += "\n\nnext: " + f.Next
	}
	return text
}

// JUnit returns the steps and the findings of level error as a JUnit suite.
func (r *Run) JUnit() ([]byte, error) {
	s := suite{Name: r.Tool + " " + r.Command, Time: fmt.Sprintf("%.3f", r.End.Sub(r.Start).Seconds())}
	for _, st := range r.Steps {
		c := testCase{Class: r.Tool, Name: st.Name, Time: fmt.Sprintf("%.3f", st.Seconds)}
		switch st.Status {
		case "failed":
			c.Failure = said(st.Reason)
			s.Failures++
		case "skipped":
			c.Skipped = said(st.Reason)
			s.Skipped++
		}
		s.Cases = append(s.Cases, c)
	}
	for _, f := range r.Findings {
		if f.Level != "error" {
			continue
		}
		s.Failures++
		s.Cases = append(s.Cases, testCase{Class: r.Tool + "." + f.Class, Name: f.Object, Failure: &message{f.Message, f.whole()}})
	}
	s.Tests = len(s.Cases)
	out, err := xml.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the JUnit suite of %q: %w", r.Tool, err)
	}
	return append([]byte(xml.Header), append(out, '\n')...), nil
}

// Markdown returns the report as a note for a merge request or an issue.
func (r *Run) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s %s: %s (exit %d)\n\n", r.Tool, r.Command, r.Outcome, r.ExitCode)
	if r.Error != "" {
		fmt.Fprintf(&b, "> %s\n\n", cell(r.Error))
	}
	for _, h := range r.Hints {
		fmt.Fprintf(&b, "- %s\n", cell(h))
	}
	if len(r.Hints) > 0 {
		b.WriteString("\n")
	}
	b.WriteString("| step | status | seconds |\n|---|---|---|\n")
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "| %s | %s %s | %.1f |\n", cell(s.Name), s.Status, cell(s.Reason), s.Seconds)
	}
	if len(r.Findings) > 0 {
		b.WriteString("\n| finding | object | what | next |\n|---|---|---|---|\n")
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "| %s %s | %s | %s | %s |\n", f.Level, cell(f.Class), cell(f.Object), cell(f.Message), cell(f.Next))
	}
	return b.String()
}

// cell makes a stranger's text fit for a Markdown table cell: one line, no
// markup, no mention of people.
func cell(s string) string {
	return strings.NewReplacer("\n", " ", "|", "\\|", "<", "&lt;", ">", "&gt;", "`", "'", "@", "@\u200b", "[", "\\[", "]", "\\]").Replace(s)
}
