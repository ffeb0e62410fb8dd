package api

import (
	"context"
	"fmt"
	"strconv"

	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/ops"
)

// certificateName is the parameter in both of its spellings.
func certificateName(req *request) string {
	if name := req.get("certificate-name"); name != "" {
		return name
	}
	return req.get("certificate_name")
}

// importFile does type=import: the file of a multipart form.
func (h *Handler) importFile(ctx context.Context, c mgmt.Caller, req *request) *answer {
	category := req.get("category")
	switch category {
	case "certificate", "private-key", "keypair":
	case "configuration":
		return h.importConfiguration(ctx, c, req)
	case serverCertificate:
		return h.importServerCertificate(ctx, c, req)
	case "":
		return missing("category", "type=import")
	default:
		return failure(mgmt.CodeBadParameter, "Parameter \"category\" is %s, expected certificate, private-key, keypair, configuration or %s", shown(category), serverCertificate)
	}
	name := certificateName(req)
	if name == "" {
		return missing("certificate-name", "importing a "+category)
	}
	format := req.get("format")
	switch format {
	case "pem", "pkcs12", "der":
	case "":
		return failure(mgmt.CodeBadParameter, "Parameter \"format\" is required while importing %s", category)
	default:
		return failure(mgmt.CodeBadParameter, "Parameter \"format\" is %s, expected pem, pkcs12 or der", shown(format))
	}
	if !req.posted || len(req.file) == 0 {
		return failure(mgmt.CodeBadParameter, "the part \"file\" is required while importing %s: POST it as multipart/form-data", category)
	}
	onHSM, refused := yesNo(req, "private-key-on-hsm")
	if refused != nil {
		return refused
	}
	err := h.m.ImportCertificate(ctx, c, mgmt.ImportRequest{
		Name: name, Format: format, Data: req.file, Passphrase: []byte(req.get("passphrase")), KeyOnHSM: onHSM, Kind: mgmt.ImportKind(category),
	})
	if err != nil {
		return failed(err)
	}
	return success(codeNone, ops.T("result", fmt.Sprintf("Successfully imported %s into candidate configuration", name)))
}

func yesNo(req *request, name string) (bool, *answer) {
	switch value := req.get(name); value {
	case "yes":
		return true, nil
	case "", "no":
		return false, nil
	default:
		return false, failure(mgmt.CodeBadParameter, "Parameter %q is %s, expected yes or no", name, shown(value))
	}
}

// importConfiguration makes a whole configuration the candidate.
func (h *Handler) importConfiguration(ctx context.Context, c mgmt.Caller, req *request) *answer {
	if !req.posted || len(req.file) == 0 {
		return failure(mgmt.CodeBadParameter, "the part \"file\" is required while importing configuration: POST it as multipart/form-data")
	}
	if err := h.m.LoadConfig(ctx, c, req.file); err != nil {
		return failed(err)
	}
	return success(codeNone, ops.T("result", "Successfully loaded the configuration into the candidate configuration"))
}

// exportFile does type=export.
func (h *Handler) exportFile(ctx context.Context, c mgmt.Caller, req *request) *answer {
	switch category := req.get("category"); category {
	case "certificate":
		return h.exportCertificate(ctx, c, req)
	case "configuration":
		return h.exportConfiguration(ctx, c, req)
	case clientCertificate:
		return h.exportClientCertificate(ctx, c, req)
	case "":
		return missing("category", "type=export")
	default:
		return failure(mgmt.CodeBadParameter, "Parameter \"category\" is %s, expected certificate, configuration or %s", shown(category), clientCertificate)
	}
}

// Categories of the manual authentication with an HSM server.
const (
	serverCertificate = "hsm-server-certificate"
	clientCertificate = "hsm-client-certificate"
)

// importServerCertificate pins an HSM server's server.pem.
func (h *Handler) importServerCertificate(ctx context.Context, c mgmt.Caller, req *request) *answer {
	server := req.get("server")
	if server == "" {
		return missing("server", "importing a "+serverCertificate)
	}
	if !req.posted || len(req.file) == 0 {
		return failure(mgmt.CodeBadParameter, "the part \"file\" is required while importing %s: POST it as multipart/form-data", serverCertificate)
	}
	done, err := h.m.HSMImportServerCertificate(ctx, c, server, req.file)
	if err != nil {
		return failed(err)
	}
	return success(codeNone, ops.T("result", ops.Imported(server, done).Text))
}

// exportClientCertificate gives the gateway's certificate, in the file that an
// HSM server expects.
func (h *Handler) exportClientCertificate(ctx context.Context, c mgmt.Caller, req *request) *answer {
	server := req.get("server")
	if server == "" {
		return missing("server", "exporting a "+clientCertificate)
	}
	file, err := h.m.HSMClientCertificate(ctx, c, server)
	if err != nil {
		return failed(err)
	}
	return &answer{status: "success", file: file.PEM, fileName: file.Name}
}

func (h *Handler) exportCertificate(ctx context.Context, c mgmt.Caller, req *request) *answer {
	name := certificateName(req)
	if name == "" {
		return failure(mgmt.CodeBadParameter, "Parameter \"certificate-name\" is required while exporting certificate")
	}
	format := req.get("format")
	switch format {
	case "pem", "pkcs12", "der", "pkcs10":
	case "":
		return failure(mgmt.CodeBadParameter, "Parameter \"format\" is required while exporting certificate")
	default:
		return failure(mgmt.CodeBadParameter, "Parameter \"format\" is %s, expected pem, pkcs12, der or pkcs10", shown(format))
	}
	withKey, refused := yesNo(req, "include-key")
	if refused != nil {
		return refused
	}
	if format == "pkcs10" {
		csr, err := h.m.CSR(ctx, c, name)
		if err != nil {
			return failed(err)
		}
		return &answer{status: "success", file: csr, fileName: "cert_" + name + ".csr"}
	}
	data, fileName, err := h.m.ExportCertificate(ctx, c, mgmt.ExportRequest{
		Name: name, Format: format, IncludeKey: withKey, Passphrase: []byte(req.get("passphrase")),
	})
	if err != nil {
		return failed(err)
	}
	return &answer{status: "success", file: data, fileName: fileName}
}

// exportConfiguration gives the running configuration, or what version names.
func (h *Handler) exportConfiguration(ctx context.Context, c mgmt.Caller, req *request) *answer {
	which, name := mgmt.Running, "running-config.xml"
	switch version := req.get("version"); version {
	case "", "running":
	case "candidate":
		which, name = mgmt.Candidate, "candidate-config.xml"
	default:
		n, err := strconv.Atoi(version)
		if err != nil || n < 1 {
			return failure(mgmt.CodeBadParameter, "Parameter \"version\" is %s, expected running, candidate or a version's number", shown(version))
		}
		which, name = mgmt.Version(n), "config-"+strconv.Itoa(n)+".xml"
	}
	data, err := h.m.ExportConfig(ctx, c, which)
	if err != nil {
		return failed(err)
	}
	return &answer{status: "success", file: data, fileName: name}
}
