package refs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Store is where secrets are fetched from.
type Store interface {
	// Parameter returns a parameter of the Parameter Store, decrypted.
	Parameter(ctx context.Context, region, name, version string) (string, error)
	// Secret returns a secret of the Secrets Manager.
	Secret(ctx context.Context, region, name, version, stage string) (string, error)
}

// parallel is how many secrets are fetched at once.
const parallel = 8

// Resolver fetches what references name, each source once in a run.
type Resolver struct {
	store Store
	mu    sync.Mutex
	calls map[source]func() (string, error)
}

// NewResolver returns a resolver over a store.
func NewResolver(store Store) *Resolver {
	return &Resolver{store: store, calls: map[source]func() (string, error){}}
}

// Resolve puts what the references of releases name in their place, and returns
// the strings that were fetched for each. Where one cannot be resolved, none is
// put in place, and all that failed are named.
func (r *Resolver) Resolve(ctx context.Context, sets ...*Set) ([][]string, error) {
	texts := make([][]string, len(sets))
	errs := make([][]error, len(sets))
	var g errgroup.Group
	g.SetLimit(parallel)
	for n, s := range sets {
		texts[n], errs[n] = make([]string, len(s.found)), make([]error, len(s.found))
		for i, ref := range s.found {
			g.Go(func() error {
				texts[n][i], errs[n][i] = r.one(ctx, ref)
				return nil
			})
		}
	}
	_ = g.Wait() // every error is in errs
	if err := worst(slices.Concat(errs...)); err != nil {
		return nil, err
	}
	for n, s := range sets {
		s.replace(texts[n])
		slices.Sort(texts[n])
		texts[n] = slices.Compact(texts[n])
	}
	return texts, nil
}

// replace puts texts in the place of the references, in the order of Find.
func (s *Set) replace(texts []string) {
	walk(s.values, nil, func(_ []string, text string) string {
		return pattern.ReplaceAllStringFunc(text, func(string) string {
			next := texts[0]
			texts = texts[1:]
			return next
		})
	})
}

func (r *Resolver) one(ctx context.Context, ref reference) (string, error) {
	text, err := r.fetch(ctx, ref.source)
	if err != nil {
		return "", fmt.Errorf("fetching %s: %w", ref.source, err)
	}
	if len(ref.key) == 0 {
		return text, nil
	}
	value, err := pick(text, ref.key)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", ref.source, err)
	}
	return value, nil
}

func (r *Resolver) fetch(ctx context.Context, s source) (string, error) {
	r.mu.Lock()
	call, ok := r.calls[s]
	if !ok {
		call = sync.OnceValues(func() (string, error) {
			if s.service == parameterStore {
				return r.store.Parameter(ctx, s.region, s.name, s.version)
			}
			return r.store.Secret(ctx, s.region, s.name, s.version, s.stage)
		})
		r.calls[s] = call
	}
	r.mu.Unlock()
	return call()
}

// pick takes one value out of a secret that is a map, as it is written there.
// What is wrong with the secret is never quoted.
func pick(text string, key []string) (string, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Content) == 0 {
		return "", errors.New("a key is asked for, and it is neither JSON nor YAML")
	}
	n := doc.Content[0]
	for _, k := range key {
		if n.Kind != yaml.MappingNode {
			return "", fmt.Errorf("there is no map to look for key %q in", k)
		}
		var found *yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == k {
				found = n.Content[i+1]
			}
		}
		if found == nil {
			return "", fmt.Errorf("it has no key %q", k)
		}
		n = found
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return "", fmt.Errorf("key %q does not hold one value", key[len(key)-1])
	}
	return n.Value, nil
}

// worst joins errors, each once: a missing right outranks the rest.
func worst(errs []error) error {
	var all []error
	var hints []string
	code := tool.Failed
	seen := map[string]bool{}
	for _, err := range errs {
		if err == nil || seen[err.Error()] {
			continue
		}
		seen[err.Error()] = true
		all = append(all, err)
		hints = append(hints, tool.HintsOf(err)...)
		if c := tool.CodeOf(err); c == tool.Denied || code == tool.Failed {
			code = c
		}
	}
	slices.Sort(hints)
	return tool.Exit(code, errors.Join(all...), slices.Compact(hints)...)
}
