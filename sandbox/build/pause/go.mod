module gitlab.com/slipway/slipway/sandbox/build/pause

go 1.26.0
