package config_test

import (
	"testing"

	"gitlab.com/slipway/slipway/internal/schematest"
	"gitlab.com/slipway/slipway/tools/backup/internal/config"
)

func TestSchemas(t *testing.T) {
	const here = "gitlab.com/slipway/slipway/tools/backup/internal/config"
	schematest.Check(t, "../../../..", here, "backup", config.Backup{})
	schematest.Check(t, "../../../..", here, "drill", config.Drill{})
}
