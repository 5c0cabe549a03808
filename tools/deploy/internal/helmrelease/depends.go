package helmrelease

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Dependency is a chart that another one needs, as its lock names it.
type Dependency struct {
	Name, Version, Repository string
	// Raw is its archive, once it was fetched.
	Raw []byte
}

// Missing returns the dependencies of a folder's chart that do not lie in its
// charts folder, in the versions of its lock. A lock that is out of step with
// the chart is refused, and so is guessing where there is none.
func (c *Chart) Missing() ([]Dependency, error) {
	wanted, lock := c.c.Metadata.Dependencies, c.c.Lock
	switch {
	case len(wanted) == 0:
		return nil, nil
	case lock == nil:
		return nil, c.vendored(wanted)
	case !inStep(c.c, lock):
		return nil, tool.Hint(badChart(c.Name(), errors.New("its lock is out of step with its dependencies")), "run 'helm dependency update' in the chart's folder and commit the lock")
	}
	return c.unmet(lock.Dependencies)
}

// unmet returns what of a lock is not in the charts folder.
func (c *Chart) unmet(locked []*chart.Dependency) (missing []Dependency, err error) {
	var wrong []error
	for _, l := range locked {
		var have []string
		for _, d := range c.c.Dependencies() {
			if d.Name() == l.Name {
				have = append(have, d.Metadata.Version)
			}
		}
		met := func(v string) bool { return v == l.Version || l.Repository == "" && satisfies(l.Version, v) }
		stale := slices.DeleteFunc(slices.Clone(have), func(v string) bool {
			return slices.ContainsFunc(locked, func(o *chart.Dependency) bool { return o.Name == l.Name && (o.Version == v || o.Repository == "") })
		})
		known := slices.ContainsFunc(missing, func(m Dependency) bool { return m.Name == l.Name && m.Version == l.Version })
		switch {
		case slices.ContainsFunc(have, met) || known:
		case len(stale) > 0:
			wrong = append(wrong, fmt.Errorf("charts/ has %s %s, the lock says %s", l.Name, strings.Join(stale, " and "), l.Version))
		case l.Repository == "":
			wrong = append(wrong, fmt.Errorf("dependency %s has no repository, and no version %s of it is in charts/", l.Name, l.Version))
		default:
			missing = append(missing, Dependency{Name: l.Name, Version: l.Version, Repository: l.Repository})
		}
	}
	if len(wrong) > 0 {
		return nil, badChart(c.Name(), errors.Join(wrong...))
	}
	return missing, nil
}

// vendored checks that all dependencies lie in the charts folder.
func (c *Chart) vendored(wanted []*chart.Dependency) error {
	var wrong []error
	for _, w := range wanted {
		if !slices.ContainsFunc(c.c.Dependencies(), func(d *chart.Chart) bool {
			return d.Name() == w.Name && (w.Version == "" || satisfies(w.Version, d.Metadata.Version))
		}) {
			wrong = append(wrong, fmt.Errorf("dependency %s %s is not in charts/, and there is no Chart.lock that says which one to fetch", w.Name, w.Version))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return tool.Hint(badChart(c.Name(), errors.Join(wrong...)), "run 'helm dependency update' in the chart's folder and commit Chart.lock")
}

func satisfies(constraint, version string) bool {
	c, err := semver.NewConstraint(constraint)
	if err != nil {
		return false
	}
	v, err := semver.NewVersion(version)
	return err == nil && c.Check(v)
}

// inStep reports whether a lock is of the dependencies that the chart names,
// by Helm's own hash, or by that of version 2 for charts of its time.
func inStep(c *chart.Chart, lock *chart.Lock) bool {
	wanted := c.Metadata.Dependencies
	return lock.Digest == hash([2][]*chart.Dependency{wanted, lock.Dependencies}) ||
		c.Metadata.APIVersion == chart.APIVersionV1 && lock.Digest == hash(map[string][]*chart.Dependency{"dependencies": wanted})
}

func hash(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// With returns the chart with fetched dependencies in its charts folder, as
// 'helm dependency build' would have put them there. It is checked whole.
func (c *Chart) With(fetched []Dependency) (*Chart, error) {
	if c.packed != nil || len(fetched) == 0 {
		return c, nil
	}
	files := make([]*loader.BufferedFile, 0, len(c.c.Raw)+len(fetched))
	for _, f := range c.c.Raw {
		files = append(files, &loader.BufferedFile{Name: f.Name, Data: f.Data})
	}
	for _, d := range fetched {
		if strings.ContainsAny(d.Name+d.Version, `/\`) {
			return nil, badChart(c.Name(), fmt.Errorf("%q in version %q is no name of a file", d.Name, d.Version))
		}
		files = append(files, &loader.BufferedFile{Name: path.Join("charts", d.Name+"-"+d.Version+".tgz"), Data: d.Raw})
	}
	whole, err := loader.LoadFiles(files)
	if err == nil {
		err = action.CheckDependencies(whole, whole.Metadata.Dependencies)
	}
	return read(whole, c.Name(), nil, err)
}
