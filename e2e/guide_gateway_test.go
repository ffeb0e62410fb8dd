package e2e

// gatewaySteps are the guide's steps that need the gateway (G3, G7, G9 to G11,
// G13 to G15), in the guide's order. They come after hsmSteps, whose HSM,
// partition, key and exported certificate they find in the guide.
var gatewaySteps = []guideStep{}
