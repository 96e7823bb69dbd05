-- Several messages in one session: the end of a message and a reset change nothing for
-- the next one. MAIL and the message are left out, because the daemon asks not to be
-- told, and miltertest takes the promise seriously.

conn = mt.connect(socket)
if conn == nil then
	error("cannot connect to " .. socket)
end

function expect(what, want)
	if mt.getreply(conn) ~= want then
		error(what .. ": reply " .. string.char(mt.getreply(conn)) .. ", want " .. string.char(want))
	end
end

mt.conninfo(conn, "client.elsewhere.example", "2001:db8::20")
mt.helo(conn, "client.elsewhere.example")
for message = 1, 5 do
	mt.rcptto(conn, "<nobody@corp.example>")
	expect("unknown", SMFIR_REPLYCODE)
	mt.rcptto(conn, "<alice@corp.example>", "NOTIFY=NEVER")
	expect("known", SMFIR_CONTINUE)
	if message ~= 2 and message ~= 4 then
		if mt.eom(conn) ~= nil then
			error("end of message: no reply")
		end
		expect("end of message", SMFIR_CONTINUE)
		if mt.eom_check(conn, MT_HDRADD) or mt.eom_check(conn, MT_HDRCHANGE) then
			error("the message was changed")
		end
	end
	mt.abort(conn) -- Postfix sends one after every message, too
end
mt.disconnect(conn)

-- A client that goes away in the middle harms nobody.
conn = mt.connect(socket)
mt.conninfo(conn, "client.elsewhere.example", "unspec")
mt.rcptto(conn, "<nobody@corp.example>")
expect("unknown", SMFIR_REPLYCODE)
mt.disconnect(conn, false)
