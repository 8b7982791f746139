// Do the two ends of a WebSocket notice what stands between them? A server that echoes, and a client that tries it all.
//
// Never trusts our own code with a frame: both ends are npm's ws.
//
//     node websocket_clients.js serve
//     node websocket_clients.js ask ws://ADDRESS:PORT

"use strict"

const { createHash, randomBytes } = require("crypto")
const { once } = require("events")
const http = require("http")
const { WebSocket, WebSocketServer } = require("ws")

const MESSAGE_MAX = 16 * 1024 * 1024
const CONNECTIONS = 1000
const MESSAGES_EACH = 20
const PATIENCE = 60_000

const digest = bytes => createHash("sha256").update(bytes).digest("hex")

function serve() {
    const server = http.createServer((request, response) => {
        if (request.url.startsWith("/page")) {
            response.setHeader("Content-Type", "text/html")
            response.end(`<script>(${page})()</script>`)
        } else if (request.method === "POST") {
            request.setEncoding("utf8")
            let text = ""
            request.on("data", part => (text += part))
            request.on("end", () => {
                console.log(`browser ${text}`)
                response.end()
            })
        } else {
            response.end("plain")
        }
    })
    const sockets = new WebSocketServer({ noServer: true, maxPayload: MESSAGE_MAX })
    server.on("upgrade", (request, socket, head) => {
        if (request.url === "/refused") {
            socket.end("HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nno\n")
            return
        }
        sockets.handleUpgrade(request, socket, head, ws => {
            ws.on("message", (data, isBinary) => {
                const text = isBinary ? "" : data.toString()
                if (text.startsWith("close ")) ws.close(Number(text.slice(6)), "as asked")
                else if (text === "ping me") ws.ping("are you there")
                // In three frames of different sizes.
                else if (text.startsWith("in pieces ")) {
                    const third = Math.ceil(data.length / 3)
                    ws.send(data.subarray(0, third), { fin: false, binary: false })
                    ws.send(data.subarray(third, 2 * third), { fin: false, binary: false })
                    ws.send(data.subarray(2 * third), { fin: true, binary: false })
                } else ws.send(data, { binary: isBinary })
            })
            ws.on("pong", data => ws.send(`pong ${data}`))
        })
    })
    server.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${server.address().port}`))
}

// Runs in the browser.
async function page() {
    const url = `ws://${location.host}/echo`
    const opened = () =>
        new Promise((resolve, reject) => {
            const ws = new WebSocket(url)
            ws.binaryType = "arraybuffer"
            ws.onopen = () => resolve(ws)
            ws.onerror = () => reject(new Error("refused"))
        })
    const answer = ws => new Promise(resolve => (ws.onmessage = event => resolve(event.data)))
    let outcome
    try {
        const ws = await opened()
        ws.send("grüß dich")
        if ((await answer(ws)) !== "grüß dich") throw new Error("another text came back")
        const sent = new Uint8Array(10 * 1024 * 1024).map((_, index) => (index * 31) >> 5)
        ws.send(sent)
        const back = new Uint8Array(await answer(ws))
        if (back.length !== sent.length || back.some((byte, index) => byte !== sent[index])) throw new Error("other bytes came back")
        ws.send("in pieces ".repeat(1000))
        if ((await answer(ws)) !== "in pieces ".repeat(1000)) throw new Error("other pieces came back")
        const closed = new Promise(resolve => (ws.onclose = resolve))
        ws.send("close 4321")
        const { code, reason, wasClean } = await closed
        outcome = `text, 10 MiB, pieces; closed ${code} "${reason}" ${wasClean ? "cleanly" : "NOT CLEANLY"}`
    } catch (error) {
        outcome = `FAILED: ${error}`
    }
    await fetch("/result", { method: "POST", body: `${location.search.slice(1)}: ${navigator.userAgent.match(/Chrom\w+\/\S+/)}: ${outcome}` })
}

const deadline = (what, promise) => {
    let timer
    const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`too late: ${what}`)), PATIENCE)))
    return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

async function opened(url) {
    const ws = new WebSocket(url, { maxPayload: MESSAGE_MAX, perMessageDeflate: url.endsWith("?deflate") })
    await deadline("open", once(ws, "open"))
    return ws
}

const next = async ws => (await deadline("message", once(ws, "message")))[0]

async function expect(what, ours, theirs) {
    const [found, wanted] = [await ours, await theirs]
    if (found !== wanted) throw new Error(`${what}: expected ${wanted}, found ${found}`)
}

async function ask(url) {
    for (const path of ["/echo", "/echo?deflate"]) {
        const ws = await opened(url + path)
        for (const bytes of [0, 1, 125, 126, 65_535, 65_536, 10 * 1024 * 1024]) {
            const sent = randomBytes(bytes)
            ws.send(sent)
            await expect(`${bytes} bytes`, digest(await next(ws)), digest(sent))
        }
        const text = "in pieces " + "ä".repeat(100_000)
        ws.send(text)
        await expect("pieces", (await next(ws)).toString(), text)
        ws.send("begun, ", { fin: false })
        ws.ping("between")
        await expect("pong between fragments", (await deadline("pong", once(ws, "pong")))[0].toString(), "between")
        ws.send("ended", { fin: true })
        await expect("fragments", (await next(ws)).toString(), "begun, ended")
        ws.send("ping me")
        await expect("their ping", (await next(ws)).toString(), "pong are you there")
        ws.close(4000, "enough")
        await expect("close", (await deadline("close", once(ws, "close")))[0], 4000)
    }
    for (const code of [1000, 1011, 1013, 3000, 4999]) {
        const ws = await opened(`${url}/echo`)
        ws.send(`close ${code}`)
        const [found, reason] = await deadline("close", once(ws, "close"))
        await expect("their close", `${found} ${reason}`, `${code} as asked`)
    }
    console.log("messages up to 10 MiB, fragments, pings both ways, close codes, with and without compression: as sent")

    const all = await Promise.all(Array.from({ length: CONNECTIONS }, () => opened(`${url}/echo`)))
    let messages = 0
    await Promise.all(
        all.map(async (ws, index) => {
            for (let number = 0; number < MESSAGES_EACH; number += 1) {
                const text = `${index} ${number} ${"x".repeat(index % 300)}`
                ws.send(text)
                await expect(`message of connection ${index}`, (await next(ws)).toString(), text)
                messages += 1
            }
        }),
    )
    await Promise.all(
        all.map(ws => {
            const closed = once(ws, "close")
            ws.close()
            return deadline("close", closed)
        }),
    )
    console.log(`${CONNECTIONS} connections at once, ${messages} messages echoed`)

    const refused = new WebSocket(`${url}/refused`)
    const [, response] = await deadline("refusal", once(refused, "unexpected-response"))
    await expect("refusal", response.statusCode, 401)
    refused.on("error", () => {})
    refused.terminate()
    console.log("an upgrade that the server refuses: 401, as it said")
}

const [what, url] = process.argv.slice(2)
if (what === "serve") serve()
else if (what === "ask" && url) {
    ask(url).then(
        () => process.exit(0),
        error => {
            console.error(error.message)
            process.exit(1)
        },
    )
} else {
    console.error("usage: websocket_clients.js serve | ask ws://ADDRESS:PORT")
    process.exit(2)
}
