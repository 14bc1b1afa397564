"""The nine functions, declared once: Azure reads this module, and so does the local host."""

import azure.functions as func

from ordersync_functions import functions, pages
from ordersync_functions.composition import parts

QUEUES_SETTING = "ORDERSYNC_QUEUES"

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)


@app.function_name("publish_outbox")
@app.timer_trigger(arg_name="timer", schedule="* * * * * *", use_monitor=False)
def publish_outbox(timer: func.TimerRequest) -> None:
    functions.publish_outbox(parts())


@app.function_name("schedule_jobs")
@app.timer_trigger(arg_name="timer", schedule="0 * * * * *", use_monitor=False)
def schedule_jobs(timer: func.TimerRequest) -> None:
    functions.schedule_jobs(parts())


@app.function_name("renew_connections")
@app.timer_trigger(arg_name="timer", schedule="0 17 * * * *")
def renew_connections(timer: func.TimerRequest) -> None:
    functions.renew_connections(parts())


@app.function_name("watch_health")
@app.timer_trigger(arg_name="timer", schedule="30 */5 * * * *")
def watch_health(timer: func.TimerRequest) -> None:
    functions.watch_health(parts())


@app.function_name("housekeeping")
@app.timer_trigger(arg_name="timer", schedule="0 30 2 * * *")
def housekeeping(timer: func.TimerRequest) -> None:
    functions.housekeeping_(parts())


# one message at a time: a batch there can only succeed or fail whole
@app.function_name("handle_event")
@app.service_bus_queue_trigger(
    arg_name="message", queue_name="events", connection=QUEUES_SETTING, cardinality=func.Cardinality.ONE
)
def handle_event(message: func.ServiceBusMessage) -> None:
    functions.handle_event(parts(), message.get_body())


@app.function_name("deliver_webhook")
@app.service_bus_queue_trigger(
    arg_name="message", queue_name="webhooks", connection=QUEUES_SETTING, cardinality=func.Cardinality.ONE
)
async def deliver_webhook(message: func.ServiceBusMessage) -> None:
    await functions.deliver_webhook(parts(), message.get_body())


@app.function_name("receive_connector_webhook")
@app.route("connector-webhooks/{connector}", methods=["GET", "POST"], auth_level=func.AuthLevel.FUNCTION)
def receive_connector_webhook(req: func.HttpRequest) -> func.HttpResponse:
    return pages.problem_or_accepted(
        lambda: functions.receive_connector_webhook(parts(), req.route_params["connector"])
    )


# a person's browser comes here from the external system, and brings no key of ours
@app.function_name("complete_authorisation")
@app.route("complete-authorisation", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def complete_authorisation(req: func.HttpRequest) -> func.HttpResponse:
    return pages.consent_page(lambda: functions.complete_authorisation(parts(), req.params))
