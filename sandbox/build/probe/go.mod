module gitlab.com/slipway/slipway/sandbox/build/probe

go 1.26.0
