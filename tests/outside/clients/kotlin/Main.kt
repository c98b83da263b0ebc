// Drives the example: signs in, calls, streams, opens a WebSocket, signs out.

package portcullis

import java.util.concurrent.ArrayBlockingQueue
import java.util.concurrent.TimeUnit
import kotlin.system.exitProcess
import okhttp3.HttpUrl
import okhttp3.Request
import okhttp3.Response
import okhttp3.WebSocket
import okhttp3.WebSocketListener
import org.json.JSONObject

fun main(arguments: Array<String>) {
    val (address, username, password) = arguments
    val url = HttpUrl.parse(address)!!
    val gateway = Portcullis(url)
    gateway.logIn(username, password)
    println("user ${gateway.user().getString("username")}")
    gateway.stream("api/v1/faceflip/generate/stream", JSONObject("""{"prompt":"hills","steps":3,"delay_ms":10}""")) { name, _ ->
        println("event $name")
    }
    val heard = ArrayBlockingQueue<String>(16)
    val socket = gateway.socket("ws/members/phone", object : WebSocketListener() {
        override fun onMessage(socket: WebSocket, text: String) {
            heard.put(text)
        }
    })
    println("greeting ${JSONObject(heard.poll(10, TimeUnit.SECONDS)).getString("type")}")
    socket.cancel()
    val spent = gateway.token
    gateway.logOut()
    gateway.token = spent
    val answer = gateway.http.newCall(Request.Builder().url(url.newBuilder().addPathSegments("api/v1/whoami").build()).build()).execute()
    println("after log-out ${answer.code}")
    exitProcess(0)
}
