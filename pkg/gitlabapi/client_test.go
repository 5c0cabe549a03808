package gitlabapi

import "testing"

// TestCallsEnd: an instance that takes a call and does not answer is not waited
// for without end.
func TestCallsEnd(t *testing.T) {
	for _, c := range []Config{{URL: "https://gitlab.example.com", Token: "t"}, {URL: "https://gitlab.example.com", JobToken: "t"}} {
		client, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		if client.api.HTTPClient().Timeout != patience {
			t.Errorf("a call may take %s", client.api.HTTPClient().Timeout)
		}
	}
}
