package config

import (
	"fmt"
	"testing"

	"gitlab.com/slipway/slipway/pkg/landscape"
)

// TestRoleIn: of an environment in two accounts, the role of the cluster's own
// is taken.
func TestRoleIn(t *testing.T) {
	s := &landscape.Snapshot{Roles: []landscape.Role{
		{Name: "environments-prod", Account: "prod", Purpose: landscape.PurposeEnvironment, Environment: "prod", Clusters: []string{"dr"}},
		{Name: "backup-prod", Account: "prod", Purpose: landscape.PurposeBackup, Environment: "prod", Clusters: []string{"prod", "prod2"}},
		{Name: "backup-prod", Account: "west", Purpose: landscape.PurposeBackup, Environment: "prod", Clusters: []string{"west"}},
		{Name: "backup-dev", Account: "dr", Purpose: landscape.PurposeBackup, Environment: "dev", Clusters: []string{"dr"}},
	}}
	for cluster, want := range map[string]string{"prod": "prod", "prod2": "prod", "west": "west", "dr": ""} {
		role, reach := RoleIn(s, "prod", cluster)
		got := ""
		if role != nil {
			got = role.Account
		}
		if got != want || fmt.Sprint(reach) != "[prod prod2 west]" {
			t.Errorf("in cluster %s the role of account %q, reach %v; want %q", cluster, got, reach, want)
		}
	}
}
