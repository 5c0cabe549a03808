package promotion_test

import (
	"testing"

	"gitlab.com/slipway/slipway/internal/schematest"
	"gitlab.com/slipway/slipway/tools/promote/internal/promotion"
)

func TestSchema(t *testing.T) {
	schematest.Check(t, "../../../..", "gitlab.com/slipway/slipway/tools/promote/internal/promotion", "promotion", promotion.Promotion{})
}
