// Package estate holds the resources that make up a landscape's live
// organisation: what each looks like, and the calls that make it so.
package estate

import (
	"maps"
	"sync"

	"gitlab.com/slipway/slipway/pkg/landscape"
)

// Facts are what is known of the live organisation. They grow while the
// resources are observed, and several accounts are observed at a time.
type Facts struct {
	Source *landscape.Source

	mu           sync.Mutex
	organization string            // o-...
	root         string            // r-...
	units        map[string]string // OU -> ou-...
	accounts     map[string]string // account -> id
	keys         map[string]string // alias of a key in an account, as "account/alias" -> ARN
	fresh        map[string]bool   // accounts made in this run
}

// NewFacts returns what is known before anything was asked: the ids in the
// files, and that of the management account.
func NewFacts(src *landscape.Source, managementID string) *Facts {
	f := &Facts{Source: src, units: map[string]string{}, accounts: map[string]string{landscape.Management: managementID},
		keys: map[string]string{}, fresh: map[string]bool{}}
	return f
}

func get[V any](f *Facts, m map[string]V, key string) V {
	f.mu.Lock()
	defer f.mu.Unlock()
	return m[key]
}

func put[V any](f *Facts, m map[string]V, key string, v V) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m[key] = v
}

func (f *Facts) setOrganization(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.organization = id
}

// Organization returns the id of the organisation, "" before there is one.
func (f *Facts) Organization() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.organization
}

func (f *Facts) setRoot(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.root = id
}

func (f *Facts) rootID() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.root
}

// Account returns the id of an account, "" before it exists.
func (f *Facts) Account(name string) string { return get(f, f.accounts, name) }

// Key returns the ARN of a key by the account and the alias, "" before it exists.
func (f *Facts) Key(account, alias string) string { return get(f, f.keys, account+"/"+alias) }

// Known returns the facts that a snapshot is compiled with.
func (f *Facts) Known() landscape.Known {
	l := f.Source.Landscape
	f.mu.Lock()
	defer f.mu.Unlock()
	k := landscape.Known{Accounts: maps.Clone(f.accounts), StateKeys: map[string]string{},
		BundleKey: f.keys[landscape.BundleAccount+"/"+bundleAlias(l.Name)]}
	for name := range l.Accounts {
		k.StateKeys[name] = f.keys[name+"/"+stateAlias(l.Name)]
	}
	return k
}

// Snapshot compiles the landscape with what is known.
func (f *Facts) Snapshot() (*landscape.Snapshot, error) {
	return landscape.Compile(f.Source, f.Known())
}

func stateAlias(name string) string  { return "alias/" + name + "-tfstate" }
func bundleAlias(name string) string { return "alias/" + name + "-bundles" }
func auditAlias(name string) string  { return "alias/" + name + "-audit" }
