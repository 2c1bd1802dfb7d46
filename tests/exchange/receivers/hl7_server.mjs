// A receiver of HL7 v2 for tests: node-hl7-server. Started with a port; prints "ready", then a line for each message with
// what it parsed, and with all segments as it holds them, as JSON. It hands over the earlier messages of a connection again
// with each new one, so a sender that needs each message once opens a connection for each (keep_open = false).
import net from 'node:net'
import { Server } from 'node-hl7-server'

const listen = net.Server.prototype.listen
// the server gives Node its address under a name that Node does not know, and would be open to the network
net.Server.prototype.listen = function (options, ...more) { return listen.call(this, { host: '127.0.0.1', ...options }, ...more) }

const server = new Server({ bindAddress: '127.0.0.1' })
const inbound = server.createInbound({ port: Number(process.argv[2]) }, async (req, res) => {
  const message = req.getMessage()
  const value = (path) => message.get(path).toString()
  console.log(JSON.stringify({
    control: value('MSH.10'),
    barcode: value('OBR.3.1'),
    status: value('OBR.25'),
    patient: value('PID.3.1'),
    first: [value('OBX.3.1'), value('OBX.5')],
    text: message.toString()
  }))
  await res.sendResponse('AA')
})
inbound.on('listen', () => console.log('ready'))
