package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/Masterminds/semver/v3"

	"gitlab.com/slipway/slipway/pkg/yamlfile"
)

// Chart says where a chart is: in a folder beside the file (path), in a chart
// repository (repo, name and version), or in an OCI registry (oci with a
// digest, or with a version outside of gated environments).
type Chart struct {
	// Path is the chart's folder, below the folder of the file.
	Path string `json:"path"`
	// Repo is the address of a chart repository, such as https://charts.jetstack.io.
	Repo string `json:"repo"`
	// Name is the chart's name in the repository.
	Name string `json:"name"`
	// Version is exact (v1.21.1). A repository takes a range as well (~1.21),
	// outside of gated environments; in a registry it is the tag.
	Version string `json:"version"`
	// OCI is the chart's place in a registry, such as oci://ghcr.io/team/charts/orders.
	OCI string `json:"oci"`
	// Digest is sha256:<64 hex digits>: of the manifest in a registry, of the
	// archive in a repository. Other bytes are refused.
	Digest string `json:"digest"`
}

// Credential names the variables of the job that hold a user name and a
// password for a host of charts.
type Credential struct {
	UserFrom     string `json:"userFrom" required:"true"`
	PasswordFrom string `json:"passwordFrom" required:"true"`
}

// String names the chart as people know it.
func (c Chart) String() string {
	var text string
	switch {
	case c.Repo != "":
		text = strings.TrimRight(c.Repo, "/") + "/" + c.Name
	case c.OCI != "":
		text = c.OCI
	default:
		return c.Path
	}
	if c.Version != "" {
		text += " " + c.Version
	}
	if c.Digest != "" {
		text += "@" + c.Digest
	}
	return text
}

// Pinned reports whether the chart's bytes are named for good, and what to
// write where they are not. A published version of a repository is taken for
// its bytes; a tag can be moved, and a range is another chart tomorrow.
func (c Chart) Pinned() (ok bool, right string) {
	switch {
	case c.Path != "" || c.Digest != "":
		return true, ""
	case c.OCI != "":
		return false, "add digest: sha256:…"
	case exact(c.Version):
		return true, ""
	}
	return false, "write the exact version"
}

var (
	digest   = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	ociPlace = regexp.MustCompile(`^oci://[A-Za-z0-9.-]+(?::[0-9]+)?(?:/[a-z0-9._-]+)+$`)
	chart    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

func exact(version string) bool {
	_, err := semver.StrictNewVersion(strings.TrimPrefix(version, "v"))
	return err == nil
}

func (c Chart) check(d *yamlfile.Doc, at string) (p yamlfile.Problems) {
	add := func(field, message, right string) { p = append(p, d.Problem(at+"."+field, message, right)) }
	kind := c.kind()
	if kind == "" {
		return append(p, d.Problem(at, "it must be said once where the chart is", "path: chart, or repo with name and version, or oci with digest"))
	}
	for _, f := range []struct{ name, value, kinds string }{
		{"name", c.Name, "repo"}, {"version", c.Version, "repo oci"}, {"digest", c.Digest, "repo oci"},
	} {
		if f.value != "" && !strings.Contains(f.kinds, kind) {
			add(f.name, "it does not go with "+kind, "take it out")
		}
	}
	switch kind {
	case "path":
		if !inside(c.Path) {
			add("path", fmt.Sprintf("%q leads out of the folder", c.Path), "a path below the file's folder")
		}
	case "repo":
		if why := Address(c.Repo); why != "" {
			add("repo", fmt.Sprintf("%q %s", c.Repo, why), "such as https://charts.example.com")
		}
		if !chart.MatchString(c.Name) {
			add("name", fmt.Sprintf("%q is not the name of a chart", c.Name), "such as cert-manager")
		}
		if _, err := semver.NewConstraint(c.Version); err != nil || c.Version == "" {
			add("version", fmt.Sprintf("%q is not a version", c.Version), "such as 1.2.3, or a range such as ~1.2")
		}
	case "oci":
		if !ociPlace.MatchString(c.OCI) {
			add("oci", fmt.Sprintf("%q is not a place in a registry", c.OCI), "such as oci://ghcr.io/team/charts/orders; its tag stands in version")
		}
		if c.Version == "" && c.Digest == "" {
			add("oci", "neither digest nor version says which chart", "add digest: sha256:…")
		}
		if c.Version != "" && !exact(c.Version) {
			add("version", fmt.Sprintf("%q is not a version", c.Version), "an exact one, such as 1.2.3: registries know no ranges")
		}
	}
	if c.Digest != "" && !digest.MatchString(c.Digest) {
		add("digest", fmt.Sprintf("%q is not a digest", c.Digest), "sha256: and 64 hex digits")
	}
	return p
}

// kind is which of the three ways the chart is named, or "".
func (c Chart) kind() string {
	kind := ""
	for _, k := range []struct{ name, value string }{{"path", c.Path}, {"repo", c.Repo}, {"oci", c.OCI}} {
		if k.value != "" && kind != "" {
			return ""
		}
		if k.value != "" {
			kind = k.name
		}
	}
	return kind
}

// Address says what is wrong with the address of a chart repository: bytes that
// anybody on the way may change are not deployed, and a password in an address
// ends up in logs.
func Address(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "is not an address"
	case u.User != nil:
		return "holds a credential: name its variables under credentials"
	case u.RawQuery != "" || u.Fragment != "":
		return "has more than a path"
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return "is not https"
	}
	return ""
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func checkCredentials(d *yamlfile.Doc, all map[string]Credential) (p yamlfile.Problems) {
	for host, c := range all {
		at := "credentials." + host
		if u, err := url.Parse("https://" + host); err != nil || u.Host != host || host == "" {
			p = append(p, d.Problem(at, fmt.Sprintf("%q is not a host", host), "such as charts.example.com, or with a port"))
		}
		for _, f := range []struct{ name, value string }{{"userFrom", c.UserFrom}, {"passwordFrom", c.PasswordFrom}} {
			if d.Has(at+"."+f.name) && !variable.MatchString(f.value) {
				p = append(p, d.Problem(at+"."+f.name, "it is not the name of a variable", "such as CHARTS_PASSWORD"))
			}
		}
	}
	return p
}
