package box

import (
	"path/filepath"
	"testing"

	"gitlab.com/slipway/slipway/sandbox/internal/awsfront"
)

// The front takes the owner and the policy that the backup bucket is given.
func TestBackupBucketHasItsPolicy(t *testing.T) {
	b := &Box{ports: map[string]int{"s3": 7070}}
	g := b.awsGateway()
	if g.Policy == "" || g.Account != managementAccount {
		t.Errorf("the gateway is %+v", g)
	}
	_, err := awsfront.New(awsfront.Config{MotoURL: "http://127.0.0.1:5000", Region: region, ManagementAccount: managementAccount,
		StateFile: filepath.Join(t.TempDir(), "state.json"), Gateway: g})
	if err != nil {
		t.Error(err)
	}
}
