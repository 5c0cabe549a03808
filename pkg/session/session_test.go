package session

import (
	"testing"

	"gitlab.com/slipway/slipway/pkg/landscape"
)

func TestTrusts(t *testing.T) {
	role := landscape.Role{Subjects: []string{"project_id:77:ref_protected:true:ref_type:branch:ref:main", "project_id:78:ref_protected:false:ref_type:branch:ref:*"}}
	for subject, want := range map[string]bool{
		"project_id:77:ref_protected:true:ref_type:branch:ref:main":  true,
		"project_id:77:ref_protected:true:ref_type:branch:ref:mains": false,
		"project_id:78:ref_protected:false:ref_type:branch:ref:a/b":  true,
		"project_id:78:ref_protected:true:ref_type:branch:ref:a":     false,
		"project_id:778:ref_protected:false:ref_type:branch:ref:a":   false,
		"": false,
	} {
		if got := trusts(role, subject); got != want {
			t.Errorf("trusts(%q) = %v", subject, got)
		}
	}
}
