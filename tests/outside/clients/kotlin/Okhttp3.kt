// Debian's OkHttp is of version 3: what the example uses of later ones, in its words.

package portcullis

import okhttp3.MediaType
import okhttp3.Request
import okhttp3.RequestBody
import okhttp3.Response
import okhttp3.ResponseBody

val Response.request: Request get() = request()
val Response.priorResponse: Response? get() = priorResponse()
val Response.body: ResponseBody? get() = body()
val Response.code: Int get() = code()
val Response.message: String get() = message()

fun String.toMediaType(): MediaType = MediaType.get(this)

fun String.toRequestBody(type: MediaType): RequestBody = RequestBody.create(type, this)
