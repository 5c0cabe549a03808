// Package gitlab writes what a job hands to GitLab in files: the environment's
// address as a dotenv report, and links of the job's page as an annotations
// report.
package gitlab

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"gitlab.com/slipway/slipway/pkg/report"
)

// URLVariable is the variable that a template's environment:url names.
const URLVariable = "SLIPWAY_ENVIRONMENT_URL"

// Address checks an address that people will follow, or that GitLab shows.
func Address(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("reading the address %q: %w", text, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsAny(text, "{} \t\r\n") {
		return fmt.Errorf("reading the address %q: it is not one such as https://orders.example.com", text)
	}
	return nil
}

// Dotenv writes the environment's address for environment:url. GitLab takes
// neither quotes nor empty lines in such a file.
func Dotenv(file, address string) error {
	if err := Address(address); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(URLVariable+"="+address+"\n"), 0o644); err != nil {
		return fmt.Errorf("writing the dotenv report %q: %w", file, err)
	}
	return nil
}

// Annotations writes links for the job's page.
func Annotations(file string, links []report.Link) error {
	type external struct {
		Link report.Link `json:"external_link"`
	}
	all := []external{}
	for _, l := range links {
		if err := Address(l.URL); err != nil {
			return fmt.Errorf("linking %q: %w", l.Label, err)
		}
		all = append(all, external{l})
	}
	raw, err := json.MarshalIndent(map[string][]external{"Slipway": all}, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the annotations report: %w", err)
	}
	if err := os.WriteFile(file, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the annotations report %q: %w", file, err)
	}
	return nil
}

// Artifact returns the address of a job's artifact, or "" where the file is not
// below the project's folder, which alone is uploaded.
func Artifact(jobURL, projectDir, file string) string {
	if jobURL == "" || projectDir == "" {
		return ""
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return ""
	}
	rel, err := filepath.Rel(projectDir, abs)
	if err != nil || !filepath.IsLocal(rel) {
		return ""
	}
	return jobURL + "/artifacts/file/" + (&url.URL{Path: filepath.ToSlash(rel)}).EscapedPath()
}
