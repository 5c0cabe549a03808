package config_test

import (
	"testing"

	"gitlab.com/slipway/slipway/internal/schematest"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
)

func TestSchemas(t *testing.T) {
	const here = "gitlab.com/slipway/slipway/tools/deploy/internal/config"
	schematest.Check(t, "../../../..", here, "service", config.Service{})
	schematest.Check(t, "../../../..", here, "releaseset", config.ReleaseSet{})
}
