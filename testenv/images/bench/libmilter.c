/* A minimal milter on Debian's libmilter. A recipient is unknown if its local part begins with x. */
#include <libmilter/mfapi.h>
#include <stdio.h>

static sfsistat envrcpt(SMFICTX *ctx, char **argv) {
	const char *rcpt = argv[0];
	if ((rcpt[0] == '<' ? rcpt[1] : rcpt[0]) != 'x')
		return SMFIS_CONTINUE;
	smfi_setreply(ctx, "550", "5.1.1", "Recipient address rejected: User unknown");
	return SMFIS_REJECT;
}

static sfsistat negotiate(SMFICTX *ctx, unsigned long actions, unsigned long steps, unsigned long a, unsigned long b,
                          unsigned long *wanted, unsigned long *skipped, unsigned long *c, unsigned long *d) {
	(void)ctx, (void)actions, (void)a, (void)b;
	*wanted = 0;
	*skipped = steps & (SMFIP_NOCONNECT | SMFIP_NOHELO | SMFIP_NOMAIL | SMFIP_NOBODY | SMFIP_NOHDRS | SMFIP_NOEOH |
	                    SMFIP_NOUNKNOWN | SMFIP_NODATA);
	*c = *d = 0;
	return SMFIS_CONTINUE;
}

int main(int argc, char **argv) {
	struct smfiDesc milter = {
		.xxfi_name = "bench",
		.xxfi_version = SMFI_VERSION,
		.xxfi_envrcpt = envrcpt,
		.xxfi_negotiate = negotiate,
	};
	if (argc != 2) {
		fprintf(stderr, "usage: bench-libmilter SOCKET\n");
		return 64;
	}
	if (smfi_setconn(argv[1]) != MI_SUCCESS || smfi_register(milter) != MI_SUCCESS)
		return 1;
	return smfi_main() == MI_SUCCESS ? 0 : 1;
}
