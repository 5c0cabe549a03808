package gitlabapitest

import (
	"net/http"
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

func TestWildcard(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"main", "main", true}, {"main", "mainly", false}, {"*", "", true}, {"*", "a/b", true},
		{"release/*", "release/1", true}, {"release/*", "rel", false}, {"*-stable", "1-stable", true}, {"*-stable", "1-stable-2", false},
		{"a*a", "a", false}, {"a*a", "aba", true}, {"a*b*c", "a-b-b-c", true}, {"a*b*c", "a-c-b", false}, {"a*b*b", "ab", false},
		{"a.c", "abc", false}, {"\xff*", "\xff1", true}, {"(*", "(x", true},
	} {
		if got := wildcard(c.pattern, c.name); got != c.want {
			t.Errorf("wildcard(%q, %q) = %t", c.pattern, c.name, got)
		}
	}
}

// TestHostileInput: what a client may send neither ends the server nor keeps its
// lock.
func TestHostileInput(t *testing.T) {
	i := start(t)
	i.push("nsflow/orders", map[string]string{"README": "a"})
	for path, want := range map[string]int{
		"POST /api/v4/projects/77/protected_branches?name=%ff":                http.StatusBadRequest,
		"POST /api/v4/projects/77/protected_tags?name=v%ff*":                  http.StatusBadRequest,
		"GET /api/v4/projects/77/protected_branches?page=9223372036854775807": http.StatusOK,
		"GET /api/v4/projects/77/pipelines?page=99999999999999&per_page=100":  http.StatusOK,
		"GET /api/v4/projects/77/repository/branches?page=3000000":            http.StatusOK,
	} {
		method, rest, _ := strings.Cut(path, " ")
		if code, _, body := i.raw(method, rest, "", "PRIVATE-TOKEN", adminToken); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
	if branches := must[[]*gitlab.Branch](t)(i.client.Branches.ListBranches(77, nil)); len(branches) != 1 {
		t.Errorf("afterwards there are the branches %v", branches)
	}
}
