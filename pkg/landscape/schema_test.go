package landscape_test

import (
	"testing"

	"gitlab.com/slipway/slipway/internal/schematest"
	"gitlab.com/slipway/slipway/pkg/landscape"
)

func TestSchema(t *testing.T) {
	const path = "gitlab.com/slipway/slipway/pkg/landscape"
	schematest.Check(t, "../..", path, "landscape", landscape.Landscape{})
	schematest.Check(t, "../..", path, "landscapeservice", landscape.LandscapeService{})
}
