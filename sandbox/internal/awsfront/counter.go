package awsfront

import (
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Call is how often one action was called in one account.
type Call struct {
	Service  string `json:"service"`
	Action   string `json:"action"`
	Account  string `json:"account"`
	Count    int    `json:"count"`
	Mutating bool   `json:"mutating"`
}

// Calls is the answer of /_slipway/calls.
type Calls struct {
	Calls    []Call `json:"calls"`
	Mutating int    `json:"mutating"`
}

type counterKey struct{ service, action, account string }

// counter counts attempts, refused ones too: a program that tries to change
// something has tried.
type counter struct {
	mu    sync.Mutex
	calls map[counterKey]int
}

func (c *counter) add(service, action, account string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls = map[counterKey]int{}
	}
	c.calls[counterKey{service, action, account}]++
}

func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = nil
}

func (c *counter) report() Calls {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := Calls{Calls: []Call{}}
	for k, n := range c.calls {
		m := mutating(k.service, k.action)
		if m {
			out.Mutating += n
		}
		out.Calls = append(out.Calls, Call{k.service, k.action, k.account, n, m})
	}
	slices.SortFunc(out.Calls, func(a, b Call) int {
		return strings.Compare(a.Service+" "+a.Action+" "+a.Account, b.Service+" "+b.Action+" "+b.Account)
	})
	return out
}

// mutating reports whether an action changes something that stays. Sessions
// and cryptography with a key do not.
func mutating(service, action string) bool {
	if method, _, found := strings.Cut(action, " "); found { // REST calls without a name
		return method != http.MethodGet && method != http.MethodHead
	}
	prefixes := []string{"Get", "List", "Describe", "Head", "Lookup", "Simulate", "Validate", "BatchGet", "Search", "Query", "Scan", "Select", "Check", "Estimate"}
	switch service {
	case "sts":
		return false
	case "kms":
		prefixes = append(prefixes, "Sign", "Verify", "Encrypt", "Decrypt", "GenerateDataKey", "GenerateMac", "GenerateRandom", "ReEncrypt", "DeriveSharedSecret")
	}
	return !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(action, p) })
}
