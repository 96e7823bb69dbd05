-- What is asked of the MTA: to choose the macros, and to be spared the message. An MTA
-- of an old version is answered all the same.

conn = mt.connect(socket)
if conn == nil then
	error("cannot connect to " .. socket)
end
if mt.negotiate(conn, nil, nil, nil) ~= nil then
	error("negotiation failed")
end
for name, option in pairs({ headers = SMFIP_NOHDRS, body = SMFIP_NOBODY, eoh = SMFIP_NOEOH, mail = SMFIP_NOMAIL, data = SMFIP_NODATA }) do
	if not mt.test_option(conn, option) then
		error("wants the " .. name)
	end
end
for name, option in pairs({ connect = SMFIP_NOCONNECT, helo = SMFIP_NOHELO, rcpt = SMFIP_NORCPT }) do
	if mt.test_option(conn, option) then
		error("does not want " .. name)
	end
end
for name, action in pairs({ headers = SMFIF_ADDHDRS, body = SMFIF_CHGBODY, rcpt = SMFIF_DELRCPT, quarantine = SMFIF_QUARANTINE }) do
	if mt.test_action(conn, action) then
		error("wants to change: " .. name)
	end
end
mt.disconnect(conn)

conn = mt.connect(socket)
if mt.negotiate(conn, 2, nil, nil) ~= nil then
	error("negotiation of version 2 failed")
end
mt.conninfo(conn, "client.elsewhere.example", "203.0.113.20")
mt.rcptto(conn, "<nobody@corp.example>")
if mt.getreply(conn) ~= SMFIR_REPLYCODE then
	error("unknown, with version 2: no refusal")
end
mt.disconnect(conn)
