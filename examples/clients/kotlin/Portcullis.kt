// A client of the app API with OkHttp, for Android and the JVM.
//
//   implementation("com.squareup.okhttp3:okhttp:5.+")
//   implementation("org.json:json:20250517")           // Android has it
//
// Calls block, so they belong on a thread of their own (Dispatchers.IO). Keep the token in the platform's key store
// between two starts (`token` can be set).

package portcullis

import java.io.IOException
import java.util.concurrent.TimeUnit
import okhttp3.Authenticator
import okhttp3.HttpUrl
import okhttp3.MediaType.Companion.toMediaType
import okhttp3.OkHttpClient
import okhttp3.Request
import okhttp3.RequestBody.Companion.toRequestBody
import okhttp3.Response
import okhttp3.Route
import okhttp3.WebSocket
import okhttp3.WebSocketListener
import org.json.JSONObject

/** What the gateway said no with; `code` is the HTTP status. */
class Refused(val code: Int, message: String) : IOException(message)

class Portcullis(private val url: HttpUrl, private val plain: OkHttpClient = OkHttpClient()) : Authenticator {
    /** The access token; null: nobody is signed in. */
    @Volatile var token: String? = null

    /** Sends the token with each request. A 401 is answered by one refresh and one more try. */
    val http: OkHttpClient = plain.newBuilder()
        .addInterceptor { chain -> chain.proceed(signed(chain.request())) }
        .authenticator(this)
        .build()

    /** For streams: between two events there may be any time. Heartbeats come every 15 s. */
    private val patient = http.newBuilder().readTimeout(60, TimeUnit.SECONDS).build()

    fun logIn(username: String, password: String) {
        val body = JSONObject().put("username", username).put("password", password)
        token = call(Request.Builder().url(at("api/v1/base/access_token")).post(body.json())).getString("access_token")
    }

    fun user(): JSONObject = data(http.newCall(Request.Builder().url(at("api/v1/base/userinfo")).build()).execute())

    /** Ends the session, with its tokens and streams. The app API has no call for it; the session API ends the same session. */
    fun logOut() {
        val request = Request.Builder().url(at("api/auth/logout")).header("Authorization", "Bearer $token").post(JSONObject().json())
        plain.newCall(request.build()).execute().use {
            // 401: it had ended already.
            if (!it.isSuccessful && it.code != 401) throw Refused(it.code, it.message)
        }
        token = null
    }

    /** A POST that is answered by an event stream: `each` gets name and data. Throwing from there ends the upstream's work. */
    fun stream(path: String, body: JSONObject, each: (String, String) -> Unit) {
        val request = Request.Builder().url(at(path)).post(body.json()).build()
        patient.newCall(request).execute().use { response ->
            if (!response.isSuccessful) throw Refused(response.code, response.message)
            val source = response.body!!.source()
            var name = "message"
            val data = mutableListOf<String>()
            while (true) {
                val line = source.readUtf8Line() ?: return
                when {
                    line.startsWith("event:") -> name = line.substring(6).removePrefix(" ")
                    line.startsWith("data:") -> data += line.substring(5).removePrefix(" ")
                    line.isNotEmpty() -> {}
                    else -> {
                        // What has no data is a comment, which keeps the line warm.
                        if (data.isNotEmpty()) each(name, data.joinToString("\n"))
                        name = "message"
                        data.clear()
                    }
                }
            }
        }
    }

    fun socket(path: String, listener: WebSocketListener): WebSocket =
        patient.newWebSocket(Request.Builder().url(at(path)).build(), listener)

    /** OkHttp asks here after a 401: the request to send again, or null to give up. */
    override fun authenticate(route: Route?, response: Response): Request? {
        val used = response.request.header("token") ?: return null
        // The second 401 of one call: the new token is refused as well.
        if (response.priorResponse != null) return null
        val fresh = renewed(used) ?: return null
        return response.request.newBuilder().header("token", fresh).build()
    }

    /** A new token in place of `used`, also an expired one; calls that fail together refresh once. */
    @Synchronized private fun renewed(used: String): String? {
        if (token != used) return token
        val request = Request.Builder().url(at("api/v1/base/refresh_token")).header("token", used).post(JSONObject().json())
        token = try {
            call(request).getString("access_token")
        } catch (refused: Refused) {
            // The session has ended: log in again. Anything else (503, no network) leaves the user signed in.
            if (refused.code == 401) null else throw refused
        }
        return token
    }

    private fun signed(request: Request): Request {
        val token = token
        if (token == null || request.header("token") != null) return request
        return request.newBuilder().header("token", token).build()
    }

    private fun call(request: Request.Builder): JSONObject = data(plain.newCall(request.build()).execute())

    /** The `data` of an envelope. */
    private fun data(response: Response): JSONObject = response.use {
        val envelope = JSONObject(it.body!!.string())
        if (!it.isSuccessful) throw Refused(it.code, envelope.optString("msg"))
        envelope.getJSONObject("data")
    }

    private fun at(path: String): HttpUrl = url.newBuilder().addPathSegments(path).build()

    private fun JSONObject.json() = toString().toRequestBody("application/json".toMediaType())
}
