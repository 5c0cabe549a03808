module gitlab.com/slipway/slipway/bench

go 1.26
