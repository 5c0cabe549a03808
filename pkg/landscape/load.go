package landscape

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"gitlab.com/slipway/slipway/pkg/yamlfile"
)

// LoadDir reads the landscape in a folder; problems name files as the folder
// was named.
func LoadDir(dir string) (*Source, error) {
	return Load(os.DirFS(dir), filepath.ToSlash(dir))
}

// Load reads landscape.yaml and services/*.yaml and checks them as a whole. All
// problems are returned at once, as yamlfile.Problems; prefix is put before the
// names of files in them.
func Load(fsys fs.FS, prefix string) (*Source, error) {
	s := &Source{}
	doc, problems := readOne(fsys, "landscape.yaml", prefix)
	if doc != nil {
		s.file = doc
		problems = append(problems, doc.Expect("Landscape")...)
		problems = append(problems, doc.Decode(&s.Landscape)...)
	}
	names, err := fs.Glob(fsys, "services/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("listing %q: %w", path.Join(prefix, "services"), err)
	}
	slices.Sort(names)
	for _, name := range names {
		doc, found := readOne(fsys, name, prefix)
		problems = append(problems, found...)
		if doc == nil {
			continue
		}
		var svc LandscapeService
		problems = append(problems, doc.Expect("LandscapeService")...)
		problems = append(problems, doc.Decode(&svc)...)
		if want := strings.TrimSuffix(path.Base(name), ".yaml"); svc.Name != "" && svc.Name != want {
			problems = append(problems, doc.Problem("name", fmt.Sprintf("service %q is in the file of %q", svc.Name, want), "a service and its file have one name"))
		}
		s.Services = append(s.Services, svc)
		s.files = append(s.files, doc)
	}
	if s.file != nil {
		c := &checker{s: s}
		c.check()
		problems = append(problems, c.found...)
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	s.resolve()
	return s, nil
}

// readOne reads a file that holds one document.
func readOne(fsys fs.FS, name, prefix string) (*yamlfile.Doc, yamlfile.Problems) {
	shown := path.Join(prefix, name)
	at := func(message, right string) yamlfile.Problems {
		return yamlfile.Problems{{File: shown, Line: 1, Column: 1, Message: message, Right: right}}
	}
	raw, err := fs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, at("the file does not exist", "the folder holds landscape.yaml and services/<service>.yaml")
	}
	if err != nil {
		return nil, at("the file cannot be read: "+err.Error(), "")
	}
	docs, err := yamlfile.Parse(shown, raw)
	var problems yamlfile.Problems
	switch {
	case errors.As(err, &problems):
		return nil, problems
	case err != nil:
		return nil, at(err.Error(), "")
	case len(docs) != 1:
		return nil, at(fmt.Sprintf("the file holds %d documents", len(docs)), "one file, one document")
	}
	return docs[0], nil
}

// resolve fills in defaults and what copies take from their originals. It runs
// on a source without problems, so there is no cycle.
func (src *Source) resolve() {
	l := &src.Landscape
	if l.State == nil {
		l.State = &StateSource{Lock: "s3"}
	}
	if l.Trust == nil {
		l.Trust = &TrustSource{Shape: "direct"}
	}
	for name := range l.Networks {
		n := l.network(name)
		if n.Region == "" {
			n.Region = l.AWS.Region
		}
		l.Networks[name] = n
	}
	for name := range l.Clusters {
		l.Clusters[name] = l.cluster(name)
	}
}

// network returns a network with what it copies.
func (l *Landscape) network(name string) NetworkSource {
	n := l.Networks[name]
	if n.CopyOf == "" {
		return n
	}
	from := l.network(n.CopyOf)
	n.CopyOf = ""
	n.Account = first(n.Account, from.Account)
	n.Region = first(n.Region, from.Region)
	n.NAT = first(n.NAT, from.NAT)
	n.VPN = first(n.VPN, from.VPN)
	return n
}

// cluster returns a cluster with what it copies. Nodes and offHours are taken as a whole.
func (l *Landscape) cluster(name string) ClusterSource {
	c := l.Clusters[name]
	if c.CopyOf == "" {
		return c
	}
	from := l.cluster(c.CopyOf)
	c.CopyOf = ""
	c.Network = first(c.Network, from.Network)
	c.RunnerTag = first(c.RunnerTag, from.RunnerTag)
	if c.Nodes == nil {
		c.Nodes = from.Nodes
	}
	if c.OffHours == nil {
		c.OffHours = from.OffHours
	}
	return c
}

func first(own, copied string) string {
	if own != "" {
		return own
	}
	return copied
}

// clustersOf returns an environment's clusters, in either way of writing them.
func (e EnvironmentSource) clustersOf() []string {
	if e.Cluster != "" {
		return []string{e.Cluster}
	}
	return e.Clusters
}

// review reports whether every merge request gets an environment of its own.
func (e EnvironmentSource) review() bool { return strings.Contains(e.Namespace, "{mr}") }

// EmailOf returns the e-mail address of an account, "" where none is given.
func (l *Landscape) EmailOf(account string) string {
	if e := l.Accounts[account].Email; e != "" {
		return e
	}
	return strings.ReplaceAll(l.AWS.EmailPattern, "{account}", account)
}
