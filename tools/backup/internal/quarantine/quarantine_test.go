package quarantine

import (
	"testing"
	"time"

	"gitlab.com/slipway/slipway/tools/backup/internal/mark"
)

// TestLeftover: only what carries our label with an end that can be read, and
// that is over, is ever deleted.
func TestLeftover(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]bool{
		"20261123T115959Z": true, "20261123T120000Z": false, "20261123T120001Z": false,
		"": false, "yesterday": false, "20261123": false,
	} {
		l := leftover("Namespace", "n", "u", map[string]string{mark.Drill: "d", mark.Expires: value}, now)
		if l.Expired != want {
			t.Errorf("%q expired is %t at %s", value, l.Expired, now)
		}
	}
}

func TestPolicyClosesBothWays(t *testing.T) {
	p := policy("drill-x")
	if len(p.Spec.PolicyTypes) != 2 || len(p.Spec.PodSelector.MatchLabels) != 0 {
		t.Errorf("the policy does not hold every pod in both directions: %+v", p.Spec)
	}
	for _, rule := range p.Spec.Ingress {
		for _, peer := range rule.From {
			if peer.IPBlock != nil || peer.NamespaceSelector == nil || peer.NamespaceSelector.MatchLabels[mark.Drill] != "drill-x" {
				t.Errorf("the policy lets in %+v", peer)
			}
		}
	}
	for _, rule := range p.Spec.Egress {
		for _, peer := range rule.To {
			if peer.IPBlock != nil || peer.NamespaceSelector == nil || len(peer.NamespaceSelector.MatchLabels) == 0 {
				t.Errorf("the policy lets out to %+v", peer)
			}
		}
	}
}
