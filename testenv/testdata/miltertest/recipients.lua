-- Recipients of every kind in one transaction: with the macros of Postfix, with those
-- of Sendmail's local mailer, which has no domain in them, and with none at all.

conn = mt.connect(socket)
if conn == nil then
	error("cannot connect to " .. socket)
end
if mt.conninfo(conn, "client.elsewhere.example", "203.0.113.20") ~= nil or mt.getreply(conn) ~= SMFIR_CONTINUE then
	error("connect: not continue")
end
if mt.helo(conn, "client.elsewhere.example") ~= nil then
	error("helo")
end

recipients = {
	{ "<alice@corp.example>", "alice@corp.example", SMFIR_CONTINUE },
	{ "<nobody@corp.example>", "nobody@corp.example", SMFIR_REPLYCODE },
	-- The macro counts, where there is one.
	{ "<@relay.example:Alice@CORP.example>", "alice@corp.example", SMFIR_CONTINUE },
	{ "<alice@corp.example>", "nobody@corp.example", SMFIR_REPLYCODE },
	-- Without a domain it says nothing.
	{ "<alice@corp.example>", "alice", SMFIR_CONTINUE },
	{ "<nobody@corp.example>", "nobody", SMFIR_REPLYCODE },
	{ "<postmaster>", "postmaster", SMFIR_CONTINUE },
	-- Nor does an empty one.
	{ "<alice@corp.example>", "", SMFIR_CONTINUE },
	{ "<nobody@corp.example>", "", SMFIR_REPLYCODE },
	{ "<Alice@Corp.Example>", nil, SMFIR_CONTINUE },
	{ "<NoBody@Corp.Example>", nil, SMFIR_REPLYCODE },
	{ "<\"alice\"@corp.example>", nil, SMFIR_CONTINUE },
	{ "<@one.example,@two.example:alice@corp.example>", nil, SMFIR_CONTINUE },
	{ "<@one.example,@two.example:nobody@corp.example>", nil, SMFIR_REPLYCODE },
	{ "alice@corp.example", nil, SMFIR_CONTINUE },
	{ "<nobody@report.example>", nil, SMFIR_CONTINUE },
	{ "<nobody@pass.example>", nil, SMFIR_CONTINUE },
	{ "<anybody@partner.example>", nil, SMFIR_CONTINUE },
	{ "<postmaster@corp.example>", nil, SMFIR_CONTINUE },
	{ "<abuse@corp.example>", nil, SMFIR_CONTINUE },
	{ "<postmaster>", nil, SMFIR_CONTINUE },
	{ "<>", nil, SMFIR_CONTINUE },
	{ "<\"nobody>@corp.example>", nil, SMFIR_REPLYCODE },
}
for _, r in ipairs(recipients) do
	if r[2] ~= nil then
		mt.macro(conn, SMFIC_RCPT, "{rcpt_addr}", r[2], "{rcpt_host}", "sink", "{rcpt_mailer}", "relay")
	end
	if mt.rcptto(conn, r[1]) ~= nil then
		error("rcpt " .. r[1] .. ": no reply")
	end
	if mt.getreply(conn) ~= r[3] then
		error("rcpt " .. r[1] .. " with macro " .. tostring(r[2]) .. ": reply " .. string.char(mt.getreply(conn)) .. ", want " .. string.char(r[3]))
	end
end
mt.disconnect(conn)
