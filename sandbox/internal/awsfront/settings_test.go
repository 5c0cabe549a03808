package awsfront

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestSettingsWhileAccountsFail: reasons are taken while what was set is
// written; the race detector sees it where both have the same map.
func TestSettingsWhileAccountsFail(t *testing.T) {
	f := &Front{}
	for range 50 {
		r := httptest.NewRequest(http.MethodPut, "http://front/_slipway/settings", strings.NewReader(`{"accountFailures":{"bad@example.com":["INTERNAL_FAILURE"]}}`))
		answer, err := f.administer(r, "settings")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan string)
		go func() { done <- f.settings.nextFailure("Bad@example.com") }()
		if _, err := json.Marshal(answer); err != nil {
			t.Error(err)
		}
		if reason := <-done; reason != "INTERNAL_FAILURE" {
			t.Errorf("the reason taken is %q", reason)
		}
	}
}
